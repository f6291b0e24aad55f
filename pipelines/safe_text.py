"""Text that is safe to show and to store: secrets are masked, control characters are written as escapes."""

from __future__ import annotations

import json
import os
import re
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"
# Names of variables, settings and URL parameters whose values are secrets. `max_tokens` and `tokenizer` are not.
_SECRET_NAME = re.compile(
    r"pass(?:word|wd|phrase)|secret|credential(?!s)|signature|token(?!s|iz)|auth_?string|"
    r"(?:api|access|account|encryption|master|private|shared|signing|subscription)[-_.]?key|"
    r"(?:^|_)pwd$|_pass$|^pgpass$",
    re.IGNORECASE,
)
# Names that are too common to be secrets anywhere but in a URL's query.
_SECRET_PARAMETER = re.compile(r"^(?:pw|pass|sig|auth|access|bearer|jwt|key|code)$", re.IGNORECASE)
# Variables whose values are secrets if they look like one: FERNET_KEY, GITHUB_PAT.
_KEY_VARIABLE = re.compile(r"_(?:key|pat)$", re.IGNORECASE)
_GENERATED = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=.:-]{16,}")
# The current folder and the one before it, which every shell sets.
_FOLDERS = {"PWD", "OLDPWD"}
# Tokens that are known by how they begin, wherever they stand: of GitHub, GitLab, Slack, OpenAI, Hugging Face, AWS,
# Google, and JSON Web Tokens.
_KNOWN_TOKEN = re.compile(
    r"(?<![\w.-])(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}|"
    r"hf_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|AIza[\w-]{35}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
)
# Names that end so hold the place of a secret, or how it is used.
_PLACE_NAME = re.compile(r"_(?:file|path|dir|url|uri|type|mode|expiration|lifetime|seconds)$", re.IGNORECASE)
# The user information ends at the last `@`, since databases take passwords with `/` and `@` as they are.
_USER_INFORMATION = re.compile(
    r"\b(?P<scheme>[a-z][a-z0-9+.-]{0,40})://(?P<user>[^\s:/?#\"'<>]*)(?P<password>:(?:(?!://)[^\s<>])*|)@",
    re.IGNORECASE,
)
_PORT = re.compile(r":\d{1,5}[/?#\"',)\]}]")
# NAME=VALUE in a query, a connection string or a command line, and 'NAME': 'VALUE' in a printed dictionary.
_ASSIGNMENT = re.compile(
    r"(?P<lead>[?&]|)(?<![\w.%+-])(?P<name>[\w.%+-]+)(?P<equals> ?= ?)(?P<value>'[^']*'|\"[^\"]*\"|[^\s&;,#\"'<>)\]}]+)"
)
_ENTRY = re.compile(r"(?P<quote>['\"])(?P<name>[\w.-]+)(?P=quote)(?P<equals>\s*[:,]\s*)(?P<value>'[^']*'|\"[^\"]*\")")
_AUTHORIZATION = re.compile(
    r"(?P<start>\bauthorization\b['\"]?\s*[:=,]\s*['\"]?)(?:(?:basic|bearer|digest|token)\s+)?[^\s'\",]+", re.IGNORECASE
)
# Markdown within a line: code, which does not reach across the cells of a table; other backticks; and words.
_MARKDOWN = re.compile(
    r"(?P<code>(?P<fence>`+)(?!`)(?:\\\||[^|])*?(?<!`)(?P=fence)(?!`))|(?P<ticks>`+)|(?P<word>(?:\\[\\`|]|[^\s`|])+)"
)
# What renderers turn into a link by itself.
_ADDRESS = re.compile(r"://|www\.|mailto:|xmpp:|[\w.+-]@[\w-]+\.\w", re.IGNORECASE)
# Pairs that are escaped already; the `]` without which there is no link, picture or definition; the start of HTML.
_BRACKET = re.compile(r"\\[\\`|\[\]<]|\](?=[(:])|<(?=[A-Za-z/!?])")
# Shorter values, and these, would mask ordinary words.
_MIN_SECRET_CHARACTERS = 4
_ORDINARY = {"true", "false", "none", "null"}
# Control and format characters (bidirectional overrides, zero-width), surrogates, unassigned and separators of lines.
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def holds_secret(value: str) -> bool:
    """Whether `value` is a URL or a connection string that holds a password, a token or a key."""
    forms = {value, unquote(value), re.sub(r"[\s\"'<>]", "", value)}
    return any(_mask_patterns(form) != form for form in forms)


def find_secret(content: Any) -> str | None:
    """The first setting, such as `registry.tracking_uri`, whose text holds a secret; None if there is none."""
    pending: list[tuple[str, Any]] = [("", content)]
    # YAML's anchors can make a block part of itself.
    seen: set[int] = set()
    while pending:
        key, value = pending.pop()
        if isinstance(value, str) and holds_secret(value):
            return key or "it"
        if isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            named = value.items() if isinstance(value, dict) else ((None, part) for part in value)
            for name, part in named:
                if holds_secret(str(name)):
                    return f"the name of a key below {key or 'the top'}"
                pending.append((key if name is None else f"{key}.{name}".lstrip("."), part))
    return None


def mask_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text` without the passwords of URLs, the values of secret parameters, and the secrets of `environment`."""
    for secret in _environment_secrets(tuple(environment.items())):
        text = text.replace(secret, MASK)
    return _mask_patterns(text)


def _mask_patterns(text: str) -> str:
    text = _USER_INFORMATION.sub(_mask_user_information, text)
    text = _ASSIGNMENT.sub(_mask_value, text)
    text = _ENTRY.sub(_mask_value, text)
    text = _KNOWN_TOKEN.sub(MASK, text)
    return _AUTHORIZATION.sub(lambda match: f"{match['start']}{MASK}", text)


def _mask_user_information(match: re.Match[str]) -> str:
    scheme, user, password = match["scheme"], match["user"], match["password"]
    # For HTTP a user name alone may be a token.
    is_http, token = scheme.lower().startswith("http"), user.rpartition("@")
    if is_http and _PORT.match(password):
        return f"{scheme}://{MASK}@{token[2]}{password}@" if token[1] else match[0]
    if password.removeprefix(":"):
        return f"{scheme}://{user}:{MASK}@"
    return f"{scheme}://{MASK}{password}@" if is_http and user else match[0]


def _mask_value(match: re.Match[str]) -> str:
    value = match["value"]
    is_parameter = bool(match.groupdict().get("lead"))
    if not _is_secret_name(match["name"], is_parameter) or value.strip("'\"") in ("", MASK):
        return match[0]
    closing = value[0] if value[0] in "'\"" else ""
    return f"{match[0].removesuffix(value)}{closing}{MASK}{closing}"


def _is_secret_name(name: str, is_parameter: bool = False) -> bool:
    decoded = unquote_plus(name)
    if is_parameter and _SECRET_PARAMETER.match(decoded):
        return True
    return bool(_SECRET_NAME.search(decoded)) and not _PLACE_NAME.search(decoded)


@lru_cache(maxsize=4)
def _environment_secrets(environment: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The secrets of `environment` in the forms in which a library may print them, longest first."""
    secrets = {secret for name, value in environment for secret in _secrets_of(name, value)}
    forms = {form for secret in secrets for form in _forms(secret) if _is_telling(form)}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _secrets_of(name: str, value: str) -> Iterator[str]:
    if name in _FOLDERS:
        return
    if _is_secret_name(name) or (_KEY_VARIABLE.search(name) and _GENERATED.fullmatch(value)):
        yield value
        # USER:PASSWORD, as in PREFECT_API_AUTH_STRING.
        yield value.partition(":")[2]
    for match in _USER_INFORMATION.finditer(value):
        yield match["password"].removeprefix(":")
    for match in _ASSIGNMENT.finditer(value):
        if _is_secret_name(match["name"], bool(match["lead"])):
            yield match["value"].strip("'\"")


def _forms(secret: str) -> Iterable[str]:
    plain = unquote(secret)
    quoted = {quote(plain, safe=""), quote(plain), quote_plus(plain)}
    return {secret, plain, *quoted, repr(plain)[1:-1], json.dumps(plain)[1:-1]}


def _is_telling(secret: str) -> bool:
    return len(secret) >= _MIN_SECRET_CHARACTERS and secret.lower() not in _ORDINARY


def format_traceback(problem: BaseException) -> str:
    """The traceback of `problem`, without secrets."""
    return mask_secrets("".join(traceback.format_exception(problem)))


def mask_error(problem: BaseException) -> None:
    """Mask the secrets in the arguments of `problem` and of its causes, which others print or store."""
    seen: set[int] = set()
    current: BaseException | None = problem
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.args = tuple(mask_secrets(part) if isinstance(part, str) else part for part in current.args)
        current = current.__cause__ or current.__context__


def escape_controls(text: str, keep: str = "") -> str:
    """`text` with control, format and invisible characters as escapes, such as `\\x1b`; those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char in keep or not _is_unsafe(char) else char.encode("unicode_escape").decode() for char in text
    )


def literal_links(markdown: str) -> str:
    """`markdown` with links, pictures and HTML shown as text; tables, lists, emphasis and code stay. Idempotent.

    Applied to every page made from the text of documents and answers: a picture's address would be requested by the
    reader's browser, which tells its owner who reads what, and when.
    """
    return "\n".join(_literal_line(line) for line in markdown.split("\n"))


def _literal_line(line: str) -> str:
    return _MARKDOWN.sub(_literal_token, line)


def _literal_token(match: re.Match[str]) -> str:
    """Escaped: a run of backticks that delimits nothing, and what makes a link or HTML; an address becomes code."""
    if match["code"]:
        return match[0]
    if match["ticks"]:
        return match[0].replace("`", "\\`")
    word = match[0]
    if not _ADDRESS.search(word):
        return _BRACKET.sub(lambda part: part[0] if len(part[0]) == 2 else f"\\{part[0]}", word)
    # Spaces keep the code apart from backticks beside it and within it.
    fence = "``" if "`" in word else "`"
    before = " " if match.start() and match.string[match.start() - 1] == "`" else ""
    after = " " if match.string[match.end() :].startswith("`") else ""
    return f"{before}{fence}{word}{' ' if fence == '``' else ''}{fence}{after}"


def escape_json(document: str) -> str:
    """A JSON document with control and format characters inside its texts as `\\uXXXX`; line breaks stay."""
    return "".join(char if char == "\n" or not _is_unsafe(char) else json.dumps(char)[1:-1] for char in document)


def _is_unsafe(char: str) -> bool:
    return not char.isprintable() and unicodedata.category(char) in _UNSAFE_CATEGORIES
