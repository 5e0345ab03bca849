"""What `/metrics` tells Prometheus. Every metric is declared here, and documented from here."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One set of metrics per cloud, so that tests do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "pileus_http_requests", "Requests answered, by service, method and status class.",
            ("service", "method", "status"), registry=self.registry,
        )
        self.latency = Histogram(
            "pileus_http_request_seconds", "Time from the request's head to the end of the reply, by service.",
            ("service",), buckets=_BUCKETS, registry=self.registry,
        )
        self.tasks = Counter(
            "pileus_tasks", "Tasks that ended, by kind and outcome (done, failed, retried).",
            ("kind", "outcome"), registry=self.registry,
        )
        self.task_time = Histogram(
            "pileus_task_seconds", "Time from a task's row to its result, by kind.",
            ("kind",), buckets=(*_BUCKETS, 30.0, 60.0, 300.0), registry=self.registry,
        )
        self.bus_connected = Gauge(
            "pileus_bus_connected", "1 while RabbitMQ is connected and takes messages (setting bus), else 0.",
            registry=self.registry,
        )
        self.bus_published = Counter(
            "pileus_bus_published", "Messages given to RabbitMQ, by kind (wake, question, answer).",
            ("kind",), registry=self.registry,
        )
        self.bus_dropped = Counter(
            "pileus_bus_dropped", "Messages that could not be given to RabbitMQ, by kind (wake, question, answer).",
            ("kind",), registry=self.registry,
        )
        self.nodes_up = Gauge("pileus_nodes_up", "Nodes heard from lately.", registry=self.registry)

    def answered(self, service: str, method: str, status: int, seconds: float) -> None:
        """Count one request. The metrics of a label's values are looked up once: each look costs a lock."""
        key = (service, method, status // 100)
        found = self._of.get(key)
        if found is None:
            count = self.requests.labels(service, method, f"{status // 100}xx")
            found = self._of[key] = (count, self.latency.labels(service))
        found[0].inc()
        found[1].observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
