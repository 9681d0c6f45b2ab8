"""Takes secrets out of what is shown: values of telling variables, and users of URLs."""

import re

_SECRET = re.compile(
    r"""(?P<name>\b[A-Za-z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|ACCESS_KEY|API_KEY)
    (?!_PATH|_FILE)[A-Za-z0-9_]*\s*[=:]\s*)(?P<value>'[^']*'|"[^"]*"|[^\s'"]+)""",
    re.VERBOSE | re.IGNORECASE,
)
_IN_URL = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:)[^\s@'\"]+@", re.IGNORECASE)


def mask(text: str) -> str:
    """A text without the values of variables whose names tell of secrets, or passwords in URLs."""
    return _IN_URL.sub(r"\g<head>***@", _SECRET.sub(_star, text))


def _star(match: re.Match[str]) -> str:
    return f"{match['name']}***"
