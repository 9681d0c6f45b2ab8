import json

import pytest
from reference.native_roots import write_nuscenes

from kdsweep.data import nuscenes_tables
from kdsweep.data.nuscenes_tables import key_frames, read_table
from kdsweep.errors import DataError

ROWS = [{"token": f"t{number}", "text": 'brackets ] } , "é"'} for number in range(200)]


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_rows_are_the_same_whatever_the_chunks_they_are_read_in(
    tmp_path, monkeypatch, chunk, indent
):
    monkeypatch.setattr(nuscenes_tables, "_CHUNK", chunk)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(ROWS[:20], indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(read_table(path)) == ROWS[:20]


def test_an_empty_table_has_no_rows(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(" [ ] ")
    assert list(read_table(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"token": 1}', r"table\.json: damaged table: expected a JSON list"),
        ("", r"table\.json: damaged table: expected a JSON list"),
        (json.dumps(ROWS)[:-30], r"table\.json: damaged or truncated table: no whole JSON row at"),
        ('[{"token": 1},', r"table\.json: damaged or truncated table"),
        ("[oops]", r"no whole JSON row at 'oops\]'"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_table(path))


def test_a_table_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "table.json"
    path.write_bytes(b"[\xff\xfe")
    with pytest.raises(DataError, match=r"table\.json: cannot read this table"):
        list(read_table(path))


def test_a_huge_row_that_never_ends_is_given_up_early(tmp_path, monkeypatch):
    monkeypatch.setattr(nuscenes_tables, "_CHUNK", 10)
    monkeypatch.setattr(nuscenes_tables, "_LONGEST_ROW", 50)
    path = tmp_path / "table.json"
    path.write_text('[{"token": "' + "x" * 500)
    with path.open() as file, pytest.raises(DataError, match="no whole JSON row"):
        try:
            list(nuscenes_tables._decode(path, file))
        finally:
            assert file.tell() < 100


def test_frames_are_ordered_by_scene_and_time(tmp_path):
    root = write_nuscenes(tmp_path, scenes=["scene-0103", "scene-0061"])
    frames = key_frames(root, "v1.0-mini")
    assert [frame.scene for frame in frames] == ["scene-0061", "scene-0103"]
    assert frames[0].labels == "lidarseg/v1.0-mini/key-1_lidarseg.bin"


def test_tables_are_read_again_when_they_change(tmp_path):
    root = write_nuscenes(tmp_path)
    assert len(key_frames(root, "v1.0-mini")) == 2
    path = root / "v1.0-mini/sample_data.json"
    path.write_text("[]")
    assert key_frames(root, "v1.0-mini") == ()


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("sample", lambda rows: rows[:1], r"sample\.json: no row has the token 'sample-1' that an"),
        ("scene", lambda rows: [], r"scene\.json: no row has the token 'scene-0'"),
        ("sensor", lambda rows: [{"token": "s"}], r"sensor\.json: row 0 lacks the field 'channel'"),
        ("scene", lambda rows: ["x"], r"scene\.json: row 0 lacks the field 'token'"),
        ("sample_data", None, r"sample_data\.json: no such table\. Unpack"),
    ],
)
def test_tables_that_do_not_fit_each_other_are_named(tmp_path, table, change, message):
    root = write_nuscenes(tmp_path)
    path = root / f"v1.0-mini/{table}.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=message):
        key_frames(root, "v1.0-mini")
