"""YAML and overrides to frozen, validated `RunSpec` and `SweepSpec`.

One sweep file says what runs. `load.load_sweep` reads it and reports every fault at once;
`check.check` is the dry run; `schema.schema` is for editors.
"""
