# One image for the API, the workers and the migrations: `conclave api | worker | migrate`.
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
WORKDIR /app
RUN python -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
COPY requirements/bootstrap.txt requirements/
RUN pip install --no-deps --require-hashes -r requirements/bootstrap.txt
COPY requirements-runtime.lock ./
RUN uv pip sync --require-hashes --compile-bytecode requirements-runtime.lock
COPY pyproject.toml README.md ./
COPY conclave conclave
COPY workflows workflows
COPY activities activities
COPY api api
COPY worker worker
COPY schema schema
RUN uv pip install --no-deps --no-build-isolation --compile-bytecode .

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/conclave conclave
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True \
    CONCLAVE_DATA_DIR=/var/lib/conclave \
    AUTH_MODE=required \
    LOG_FORMAT=json
USER conclave
WORKDIR /var/lib/conclave
VOLUME /var/lib/conclave
EXPOSE 8000
ENTRYPOINT ["tini", "--", "conclave"]
CMD ["api"]
