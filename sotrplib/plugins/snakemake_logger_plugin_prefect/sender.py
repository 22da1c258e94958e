"""Sends messages to a Prefect server from a thread of its own, in batches, and outlives any failure of the server."""

import os
import threading
from collections import deque

from snakemake_logger_plugin_prefect.story import ARTIFACT, EVENT, LOG

BATCH = 200
PAUSE_S = 1.0
TIMEOUT_S = 5.0
LINGER_S = 10.0  # the end of a run waits so long at most for a server that answers ...
FAILING_LINGER_S = 1.0  # ... and for one that does not
REFUSALS = (401, 403, 404, 422)
MAX_WAITING = 200_000


class Sender(threading.Thread):
    """Queue of messages to one flow run.

    Parameters
    ----------
    flow_run : dict
        ``flow``, ``name``, ``parameters`` of the flow run that is created with the first contact.
    api_url : str or None
        Of the server; None for what Prefect is configured to.
    warn, tell : function of str
        For the one warning, and for the address at which to look.
    """

    def __init__(self, flow_run, *, api_url, warn, tell):
        super().__init__(name="prefect", daemon=True)
        self.flow_run, self.api_url, self.warn, self.tell = flow_run, api_url, warn, tell
        self.queues = {kind: deque(maxlen=MAX_WAITING) for kind in (EVENT, LOG, ARTIFACT)}
        self.flow_run_id = self.ending = None
        self.warned = self.failing = self.refused = False
        self.stopping = threading.Event()

    def put(self, messages):
        """Queue messages; never waits."""
        for message in messages:
            self.queues[message.kind].append(message.body)

    def finish(self, kind, sentence):
        """Send what is left and the final state; what a server misses that does not answer now is lost."""
        self.ending = {"type": kind, "message": sentence}
        self.stopping.set()
        self.join(FAILING_LINGER_S if self.failing else LINGER_S)

    def run(self):
        """Send once a second until told to stop, then once more."""
        os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect asks its makers' computers nothing and tells them nothing
        try:
            from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), _client(self.api_url) as client:
                self._serve(client)
        except Exception as error:  # whatever is wrong with Prefect or its settings must not reach the run
            self._warn(error)

    def _serve(self, client):
        self._try(client, last=False)  # at once, for a flow run should start before its task runs
        last = False
        while not last and not self.refused:
            last = self.stopping.wait(PAUSE_S)
            self._try(client, last)

    def _try(self, client, last):
        import httpx

        try:
            if self.flow_run_id is None:
                self._create(client)
            self._flush(client, last)
            self.failing = False
        except (httpx.HTTPError, OSError) as error:
            response = getattr(error, "response", None)
            self.failing = True
            self.refused = response is not None and response.status_code in REFUSALS
            self._warn(error)

    def _create(self, client):
        flow = client.request("POST", "/flows/", json={"name": self.flow_run["flow"]}).json()["id"]
        body = {"flow_id": flow, "parameters": self.flow_run["parameters"], "state": {"type": "RUNNING"}}
        body |= {"name": self.flow_run["name"]} if self.flow_run["name"] else {}
        self.flow_run_id = client.request("POST", "/flow_runs/", json=body).json()["id"]
        dashboard = str(client.api_url).rstrip("/").removesuffix("/api")
        self.tell(f"Prefect shows this run at {dashboard}/runs/flow-run/{self.flow_run_id}")

    def _flush(self, client, last):
        for kind, path in ((EVENT, "/events"), (LOG, "/logs/")):
            queue = self.queues[kind]
            while queue:
                batch = [queue[n] for n in range(min(BATCH, len(queue)))]
                client.request("POST", path, json=[body(self.flow_run_id) for body in batch])
                for _ in batch:
                    queue.popleft()
        if last:
            body = {"state": self.ending, "force": True}
            client.request("POST", f"/flow_runs/{self.flow_run_id}/set_state", json=body)
        artifacts = self.queues[ARTIFACT]
        while artifacts and (last or not self.queues[EVENT]):
            client.request("POST", "/artifacts/", json=artifacts[0](self.flow_run_id))
            artifacts.popleft()

    def _warn(self, error):
        if not self.warned:
            where = self.api_url or "the configured Prefect server"
            self.warn(f"Prefect: {where}: {type(error).__name__}: {error}; the run goes on without being shown")
        self.warned = True


def _client(api_url):
    """Prefect's own client, with what it is configured to: address, keys, certificates."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url = api_url or settings.api.url
    if not url:
        raise ValueError("no server is configured: set PREFECT_API_URL or run `prefect config set PREFECT_API_URL=...`")
    keys = {"api_key": settings.api.key, "auth_string": settings.api.auth_string}
    keys = {name: value.get_secret_value() if value else None for name, value in keys.items()}
    return SyncPrefectClient(url, httpx_settings={"timeout": TIMEOUT_S}, **keys)
