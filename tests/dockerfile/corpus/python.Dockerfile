# syntax=docker/dockerfile:1
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VIRTUAL_ENV=/opt/venv
ENV PATH="$VIRTUAL_ENV/bin:$PATH"
WORKDIR /app

FROM base AS dependencies
RUN python -m venv "$VIRTUAL_ENV"
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements.txt,target=requirements.txt \
    pip install -r requirements.txt

FROM dependencies AS tests
RUN --mount=type=cache,target=/root/.cache/pip pip install pytest
COPY . .
RUN pytest

FROM base
ARG UID=10001
RUN adduser --disabled-password --gecos "" --uid "${UID}" app
COPY --from=dependencies $VIRTUAL_ENV $VIRTUAL_ENV
COPY --chown=app:app --exclude=tests . .
USER app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --retries=3 \
    CMD python -c 'import urllib.request as r; r.urlopen("http://127.0.0.1:8000/health")'
CMD ["gunicorn", "shop.wsgi", "--bind=0.0.0.0:8000"]
