# One image for web, relay, beat and every worker; the command says which. The web image is the same
# without PyTorch: docker build --build-arg GROUPS=prod
FROM python:3.11-slim-bookworm AS build

ARG GROUPS=worker,prod
# An index that has a smaller torch than the default one; see "How large torch is" in README.md.
ARG TORCH_INDEX=""

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
RUN case ",$GROUPS," in *,worker,*) \
      if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch; fi ;; \
    esac \
    && pip install --constraint constraints.txt ".[$GROUPS]"

FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 openledger \
    && install --directory --owner=openledger --group=openledger /data
COPY --from=build /opt/venv /opt/venv
# The engine's native step is built on the machine that runs it, for its own processor.
ARG GROUPS=worker,prod
RUN case ",$GROUPS," in *,worker,*) \
      apt-get update && apt-get install --yes --no-install-recommends g++ \
      && rm -rf /var/lib/apt/lists/* ;; \
    esac
COPY --chown=root:root . /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    DATA_DIR=/data \
    STATIC_ROOT=/srv/static \
    STATIC_FROM_SOURCE=0
# With names that carry the hash of the content, so a browser keeps what has not changed.
RUN SECRET_KEY=of-this-step-only DATA_DIR=/tmp/none python manage.py collectstatic --no-input
USER openledger
EXPOSE 8000
CMD ["gunicorn", "config.asgi:application", "--worker-class", "uvicorn_worker.UvicornWorker", \
     "--workers", "2", "--bind", "0.0.0.0:8000", "--timeout", "60", "--no-control-socket"]
