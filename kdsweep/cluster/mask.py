"""Takes secrets out of what is shown: values of telling names, credentials of URLs and headers."""

import re

_TELLING = (
    # Not `tokenizer=`; and a number is no `API_TOKENS`, but a count of tokens.
    r"(?:(?:TOKEN(?!I[SZ])(?!S[\"']?(?:\s*[=:]\s*|\s+)\d{1,9}(?![^\s,;&|)}\]'\"]))"
    r"|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS(?![A-Z])|CREDENTIALS?|ACCESS[_-]KEY|API[_-]KEY"
    r"|(?:PRIVATE|LICEN[CS]E|ENCRYPTION|SIGNING|MASTER)[_-]KEY|ACCOUNT[_-]?KEY|SIGNATURE"
    r"|CONNECTION[_-]STRING)(?![_-](?:PATH|FILE|STDIN))[A-Z0-9_-]*"
    # These mean something else on their own, and in front of another word (`RAY_AUTH_MODE`).
    r"|(?<=[A-Z0-9][_-])(?:PWD|PAT|AUTH)(?![A-Z0-9_-]))"
)
_WORD = r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\;&|])+"""
"""A word of the shell: it ends at a space or an operator outside quotes."""

_GAP = r"(?:[^\S\n]|\\\n)+"
"""What parts two words of one command: space, or a line that goes on in the next."""

_NAMED = re.compile(rf"""(?P<name>\b[A-Z0-9_-]*{_TELLING}["']?\s*[=:]\s*){_WORD}""", re.IGNORECASE)
_OPTION = re.compile(rf"(?P<name>(?<!\S)--?[A-Z0-9_-]*{_TELLING}\s+)(?!-){_WORD}", re.IGNORECASE)
_HEADER = re.compile(
    r"""(?P<name>\b(?:Bearer|Basic|Authorization:\s*\w+)\s+)[^\s'";&|]+""", re.IGNORECASE
)
_USER = re.compile(rf"(?P<name>(?<!\S)(?:-u|--user)[\s=]+)(?=\S*:){_WORD}")
# `docker login -p X`, `sshpass -p X`: elsewhere -p is a port, a process, a profile.
_LOGIN = re.compile(
    rf"(?P<name>\b(?:login|sshpass)(?:{_GAP}(?!-p){_WORD})*?{_GAP}-p(?:{_GAP}|=)?)(?!-){_WORD}"
)
# `aws configure set aws_secret_access_key X`
_SET = re.compile(
    rf"(?P<name>\bconfig(?:ure)?{_GAP}set(?:{_GAP}{_WORD})*?{_GAP}[^\s=]*{_TELLING}{_GAP})(?!-){_WORD}",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"""(?P<name>[?&]sig=)[^\s'"&]+""", re.IGNORECASE)
# A password may hold '@' and '/'; what follows a host's port is no password.
_URL = re.compile(
    r"""(?P<name>\b[A-Z][A-Z0-9+.-]*://)(?:[^\s/:@'"]*:(?!\d+/)[^\s'"]*|[^\s/'"]+)@""",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """A text with stars for the values of names that tell of secrets, and for users in URLs.

    All before the host of a URL counts: a token often stands where a user's name would.
    """
    text = _URL.sub(r"\g<name>***@", text)
    for pattern in (_HEADER, _USER, _LOGIN, _SET, _OPTION, _SIGNED, _NAMED):
        text = pattern.sub(r"\g<name>***", text)
    return text
