# mimray for Kubernetes:   docker build --tag mimray:0.1.0 .
#
# The locked packages and the code, as a user without rights. CUDA comes with torch's own wheels: a host
# needs NVIDIA's driver and container runtime.

FROM python:3.11.14-slim-bookworm AS built
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /mimray
COPY requirements.lock ./
RUN uv venv .venv && uv pip install --no-cache --python .venv/bin/python --requirement requirements.lock
COPY . .
RUN uv pip install --no-cache --python .venv/bin/python --no-deps --editable .

FROM python:3.11.14-slim-bookworm
# gcc: Triton compiles a launcher for each kernel. wget: KubeRay asks Ray by it whether it is well.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home mimray
COPY --from=built /mimray /mimray
ENV PATH=/mimray/.venv/bin:$PATH PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token
WORKDIR /mimray
USER 1000
CMD ["mimray", "--help"]
