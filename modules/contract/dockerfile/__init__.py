"""Runs in both worlds: the Dockerfile front end. Pure: text in, data types out; no file is read here.

* `parse.parse(text, file)` -> `Dockerfile`; `parse.parse_trigger(text, escape)` reads an ONBUILD of a base image.
* `apply.expand_instruction(instruction, variables, escape)` replaces variables where the reference allows it.
* `scope.Scope` knows which variables hold at an instruction: global, predefined and platform arguments, ARG, ENV.
* `graph.Graph(dockerfile, arguments, contexts).needed(target)`: the stages that a target needs, and their origins.
* `ignore.Patterns` is .dockerignore; `wildcard.match` is Go's `filepath.Match`, for sources of COPY and ADD.
* `lint.check(dockerfile, ...)` gives the findings of `build --check`, `lint.render` their text.
"""
