# To build the same image every time, pin the digest that this prints, behind the tag:
# docker buildx imagetools inspect python:3.13-slim-trixie
FROM python:3.13-slim-trixie AS base

FROM base AS build
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==0.13.9
# A read-only file system can keep no bytecode, so it is compiled now. The cache would only make this stage larger; a
# cache mount would tie the file to one builder.
ENV UV_PROJECT_ENVIRONMENT=/opt/taskwell UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# The dependencies are a layer of their own, which stays in the cache as long as the lock file does.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --extra redis --extra otel --no-install-project
COPY . .
RUN uv sync --locked --no-dev --extra redis --extra otel --no-editable

FROM base
LABEL org.opencontainers.image.title="Taskwell" \
      org.opencontainers.image.description="A multi-user task API, with PostgreSQL or SQLite and users from Better Auth" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/taskwell /opt/taskwell
ENV PATH=/opt/taskwell/bin:$PATH
# Kubernetes can only check that a user is not root if it is a number.
USER 10001:10001
EXPOSE 8000
# Liveness, as docs/operations.md describes it: it never touches the database.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=1s CMD ["python", "-c", "\
import http.client, os, sys; \
service = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); \
service.request('GET', '/health'); \
sys.exit(service.getresponse().status != 200)"]
# In this form no shell stands between the service and its signals. Without --port, it listens on PORT, or else on 8000.
ENTRYPOINT ["taskwell"]
CMD ["serve", "--host", "0.0.0.0"]
