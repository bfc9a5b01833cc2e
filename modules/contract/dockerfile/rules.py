"""Runs in both worlds: the names and descriptions of the lint's rules: BuildKit's, and those of `mistakes.py`."""

from __future__ import annotations

from . import mistakes

BUILDKIT = {
    "ConsistentInstructionCasing": "All instructions are written in the same case",
    "CopyIgnoredFile": "COPY of a file that .dockerignore leaves out",
    "DuplicateStageName": "Names of stages are unique",
    "ExposeInvalidFormat": "EXPOSE takes no address and no port of the host",
    "ExposeProtoCasing": "The protocol of EXPOSE is written in lower case",
    "FromAsCasing": "AS is written in the case of FROM",
    "FromPlatformFlagConstDisallowed": "FROM --platform is no constant",
    "InvalidDefaultArgInFrom": "FROM is valid with the defaults of its ARGs",
    "InvalidDefinitionDescription": "The comment before a stage or an argument begins with its name",
    "JSONArgsRecommended": "CMD and ENTRYPOINT as a JSON list get signals themselves",
    "LegacyKeyValueFormat": "NAME=VALUE instead of NAME VALUE",
    "MaintainerDeprecated": "A label instead of MAINTAINER",
    "MultipleInstructionsDisallowed": "Of CMD, ENTRYPOINT and HEALTHCHECK only the last one of a stage counts",
    "NoEmptyContinuation": "No empty line inside of a continued instruction",
    "RedundantTargetPlatform": "$TARGETPLATFORM is the default of FROM --platform",
    "ReservedStageName": "scratch and context are no names of stages",
    "SecretsUsedInArgOrEnv": "ARG and ENV stay in the image: no secrets",
    "StageNameCasing": "Names of stages are written in lower case",
    "UndefinedArgInFrom": "Variables in FROM have an ARG before the first FROM",
    "UndefinedVar": "Variables are defined before they are used",
    "WorkdirRelativePath": "The first WORKDIR of a stage is absolute",
}

EXPERIMENTAL = frozenset({"CopyIgnoredFile", "InvalidDefinitionDescription"})
"""Used only where `check=experimental=` names them, as in BuildKit."""

DESCRIPTIONS = {**BUILDKIT, **mistakes.RULES}
