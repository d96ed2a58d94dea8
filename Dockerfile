# The proxy (latent-ingest serve) as an image, in two variants; see docs/docker.md.
#
#   docker build -t latent-ingest .                          questions by the model, documents too
#   docker build -t latent-ingest:table --target table .     questions by the table, without PyTorch
#
# TORCH_INDEX names another index of packages for PyTorch, such as that of its builds for CPUs:
#   docker build --build-arg TORCH_INDEX=... .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    HOME=/home/latent \
    PATH=/opt/latent/bin:$PATH
# A user without rights and without a shell; the number is what Kubernetes checks.
RUN groupadd --gid 10001 latent \
    && useradd --uid 10001 --gid latent --create-home --home-dir /home/latent --shell /usr/sbin/nologin latent

# Compilers and pip's cache stay in this stage.
FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY constraints.txt ./
# What makes the wheel is in an environment of its own, which the image does not get.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install -c constraints.txt build setuptools \
    && python -m venv /opt/latent
COPY pyproject.toml README.md LICENSE ./
COPY cli cli
COPY connector connector
COPY mappings mappings
RUN /opt/build/bin/python -m build --no-isolation --wheel --outdir /wheels

# Everything but what computes: requirements.py leaves out PyTorch and what only the model needs.
FROM build AS build-table
COPY docker/requirements.py docker/
RUN python docker/requirements.py pyproject.toml > /wheels/requirements.txt \
    && pip install -c constraints.txt -r /wheels/requirements.txt \
    && pip install --no-deps /wheels/*.whl

FROM build AS build-model
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then \
        torch="$(grep -E '^torch==' constraints.txt)" \
        && pip install --index-url "$TORCH_INDEX" "$torch"; \
    fi \
    && wheel="$(ls /wheels/*.whl)" \
    && pip install -c constraints.txt "latent-ingest[serve,backbone] @ file://$wheel"

FROM base AS served
WORKDIR /home/latent
USER 10001:10001
EXPOSE 9280
STOPSIGNAL SIGTERM
# Ready when the model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9280/_latent/ready', timeout=4)"]
# An image listens to all; who may reach it is for its network to say.
ENTRYPOINT ["latent-ingest", "serve", "--host", "0.0.0.0", "--port", "9280"]

FROM served AS table
COPY --from=build-table /opt/latent /opt/latent
CMD ["--questions", "table", "--no-documents"]

# The last stage is what is built without --target.
FROM served AS model
COPY --from=build-model /opt/latent /opt/latent
CMD []
