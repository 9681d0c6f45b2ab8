"""Secrets are taken out of what is shown, and nothing else is."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdsweep.cluster.mask import mask


def test_masking_leaves_the_rest_as_it_is():
    text = "A=1 API_KEY=x http://host:5000/a --port 1 s3://k:v@b"
    assert mask(text) == "A=1 API_KEY=*** http://host:5000/a --port 1 s3://***@b"
    for plain in (
        "RAY_AUTH_TOKEN_PATH=~/t mlflow --password-file /x --passes 3",
        "sudo -u ray ps -u $USER SSH_PRIVATE_KEY_PATH=~/k",
        "docker run -p 8080:80 a; docker login --password-stdin host; ps -p 3",
        "docker login host\nssh -p 22 host",
        "passed=3 http://host:5000/a@b git+https://github.com/a/b@main bypass --pass",
        "tokenizer=bert num_tokens=5 {'max_tokens': 5} --max-tokens 5 TOKENIZERS_PARALLELISM=false",
        "RAY_AUTH_MODE=token PWD=/a OLDPWD=/b author=me auth: {x: y} mlflow --app-name basic-auth",
    ):
        assert mask(plain) == plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login --password topsecret x", "login --password *** x"),
        ("login --api-key=topsecret x", "login --api-key=*** x"),
        ("login --token 'top secret' x", "login --token *** x"),
        ('curl -H "Authorization: Bearer topsecret" x', 'curl -H "Authorization: Bearer ***" x'),
        ("curl -H 'X-Token: topsecret' x", "curl -H 'X-Token: ***' x"),
        ("pip install -i https://topsecret@host/simple", "pip install -i https://***@host/simple"),
        ("DB_PASS=topsecret; run", "DB_PASS=***; run"),
        ("export A_TOKEN=top'secret x'top&& run", "export A_TOKEN=***&& run"),
        ("postgresql://u:top@secret@db/m", "postgresql://***@db/m"),
        ("postgresql://u:top/secret@db/m", "postgresql://***@db/m"),
        ('{"token": "topsecret"}', '{"token": ***'),
        ("curl -u me:topsecret x", "curl -u *** x"),
        ("curl -H 'Authorization: token topsecret'", "curl -H 'Authorization: token ***'"),
        ("AZURE_CONNECTION_STRING='AccountKey=top secret=='", "AZURE_CONNECTION_STRING=***"),
        ("s3://b/k?X-Amz-Signature=topsecret&a=1", "s3://b/k?X-Amz-Signature=***&a=1"),
        ("SIGNING_PRIVATE_KEY=topsecret x", "SIGNING_PRIVATE_KEY=*** x"),
        ("docker login -u me -p topsecret host", "docker login -u me -p *** host"),
        ("docker login -u 'a;b' -p=topsecret host", "docker login -u 'a;b' -p=*** host"),
        ("docker login \\\n -u me \\\n -ptopsecret", "docker login \\\n -u me \\\n -p***"),
        ("docker login --password topsecret host", "docker login --password *** host"),
        ("docker login --password=topsecret host", "docker login --password=*** host"),
        ("sshpass -p 'top secret' ssh -p 22 host", "sshpass -p *** ssh -p 22 host"),
        (
            "aws configure set aws_secret_access_key topsecret --profile a",
            "aws configure set aws_secret_access_key *** --profile a",
        ),
        (
            "aws configure set --profile a a.aws_session_token 'top secret'; x",
            "aws configure set --profile a a.aws_session_token ***; x",
        ),
        ("curl 'https://a/b?sv=1&sig=top%2Fsecret&se=2'", "curl 'https://a/b?sv=1&sig=***&se=2'"),
        ("curl https://a/b?sig=topsecret -o c", "curl https://a/b?sig=*** -o c"),
        ("https://a/b?X-Amz-Security-Token=topsecret", "https://a/b?X-Amz-Security-Token=***"),
        ("DB_PWD=topsecret GITHUB_PAT=topsecret x", "DB_PWD=*** GITHUB_PAT=*** x"),
        ("REDISCLI_AUTH=topsecret; x", "REDISCLI_AUTH=***; x"),
        ("x --http-auth me:topsecret", "x --http-auth ***"),
        ("PASSPHRASE='top secret' x", "PASSPHRASE=*** x"),
        ("LICENSE_KEY=topsecret SIGNING_KEY=topsecret", "LICENSE_KEY=*** SIGNING_KEY=***"),
        ("API_TOKENS=topsecret,5 x", "API_TOKENS=*** x"),
        ("https://a/b?v=1&token=topsecret&w=2", "https://a/b?v=1&token=***&w=2"),
    ],
)
def test_secrets_are_masked_however_they_are_written(text, shown):
    assert mask(text) == shown


HARMLESS = [
    *["docker", "run", "configure", "config", "set", "ssh", "-p", "8080:80", "-v", "=", "?", "&"],
    *["http://host:5000/a?b=c", "s3://bucket/k", "sig", "design=1", "'", '"', "\\", "\n", ";", ":"],
    *["tokenizer=bert", "RAY_AUTH_MODE=x", "author=me", "compat=1", "spat: 1", "PWD=/a"],
    *["key=1", "pip install -q x==1.2", "python -c 'print(1)'", "user", "--name", "$HOME/a", "é"],
]
"""What commands of cluster files are made of; no name or option of it tells of a secret."""


@settings(max_examples=500)
@given(
    st.one_of(
        st.lists(st.sampled_from(HARMLESS), max_size=12).map(" ".join),
        st.lists(st.sampled_from(HARMLESS), max_size=12).map("".join),
        st.text(st.characters(exclude_characters="@")),
    )
)
def test_what_tells_of_no_secret_is_shown_as_it_is(text):
    keys = "token(?!izer=bert)|[_-](pwd|pat|auth)(?!_mode=x)|secret|pass|credential|access.?key"
    keys += "|api.?key|(private|licen[cs]e|encryption|signing|master|account).?key|signature"
    keys += "|connection.?string|bearer|basic|authorization|login|-u|[?&]sig="
    assume(not re.search(keys, text, re.IGNORECASE))
    assert mask(text) == text


def test_a_long_command_is_left_as_it_is():
    line = "docker login " + "-u 'a b' " * 2000 + "config set " + "x=1 " * 2000
    assert mask(line) == line
