# syntax=docker/dockerfile:1
# A server of one model or more. The versions are those of the lock:
#
#   docker build -t demeanor .
#   docker run --read-only --tmpfs /tmp:size=4g --cap-drop ALL --security-opt no-new-privileges -p 8000:8000 \
#     -v "$PWD/bundle:/bundle:ro" demeanor /bundle
#
# or with a registry: -e MLFLOW_TRACKING_URI=http://registry:5000 demeanor models:/NAME@champion

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/demeanor
ENV PATH=/opt/demeanor/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# The wheels of PyTorch for processors alone: a fifth of the size. A server with GPUs takes the usual index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-compile --constraint constraints.txt --index-url "$TORCH_INDEX" \
    --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# `speech` recognises the words of recordings that come without; a server whose callers give all words needs it not.
ARG EXTRAS=serve,speech
# The root of a running container is read-only: what the server imports is compiled here, and nothing else.
RUN pip install --no-compile --constraint constraints.txt ".[$EXTRAS]" \
    && python -c "import demeanor.server.preloaded, demeanor.server.command, demeanor.server.timelines, mlflow.pyfunc" \
    && python -c "import demeanor.inference.model, demeanor.serving.locating"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin demeanor
COPY --from=build /opt/demeanor /opt/demeanor
ENV PATH=/opt/demeanor/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    ORT_DISABLE_TELEMETRY=1 \
    KEDRO_DISABLE_TELEMETRY=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["demeanor", "serve", "--host", "0.0.0.0", "--port", "8000"]
