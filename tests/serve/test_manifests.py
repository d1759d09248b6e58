"""The configuration files for servers are valid and consistent."""

import json
import re

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.pipelines.runs import ROOT, python
from trellis.components.saved_model import package
from trellis.serve.server.version_labels import labels_of

SERVE = ROOT / "serve"
INT, BOOL, TEXT, MESSAGE = (getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{t}") for t in ["INT64", "BOOL", "STRING", "MESSAGE"])  # noqa: E501  # fmt: skip


def message(name, fields, inner=None, repeated=()):
    """Return a protobuf message, for the two that tensorflow-serving-api lacks."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="here", syntax="proto3")
    if inner is not None:
        kind = file.message_type.add(name=f"{name}Inner")
        for number, (field, type_) in enumerate(inner.items(), 1):
            kind.field.add(name=field, number=number, type=type_, label=1)
    kind = file.message_type.add(name=name)
    for number, (field, type_) in enumerate(fields.items(), 1):
        made = kind.field.add(name=field, number=number, type=type_, label=3 if field in repeated else 1)
        if type_ == MESSAGE:
            made.type_name = f".here.{name}Inner"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"here.{name}"))()


def test_models_config_names_models_and_labels():
    text = (SERVE / "models.config").read_text()
    for taken in (text, text.replace("\n  # ", "\n")):  # with the commented lines, too
        config = text_format.Parse(taken, model_server_config_pb2.ModelServerConfig())
        for each in config.model_config_list.config:
            assert each.base_path == f"/models/{each.name}" and each.model_platform == "tensorflow"
    assert [each.name for each in config.model_config_list.config] == ["bilstm_crf", "lstm_classifier"]
    assert labels_of(SERVE / "models.config") == {"bilstm_crf": {"stable": 1, "canary": 2}}


def batching(text):
    wrapped = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]
    fields = {**dict.fromkeys(wrapped, MESSAGE), "pad_variable_length_inputs": BOOL, "allowed_batch_sizes": INT}
    return text_format.Parse(text, message("Batching", fields, {"value": INT}, repeated=["allowed_batch_sizes"]))


def test_batching_parameters_are_consistent():
    found = batching((SERVE / "batching.config").read_text())
    assert found.max_batch_size.value == 64 and found.pad_variable_length_inputs
    of_each = batching(package.BATCHING_PARAMETERS)
    # They must ascend, and the last one must be the largest batch.
    assert list(of_each.allowed_batch_sizes) == sorted(set(of_each.allowed_batch_sizes))
    assert of_each.allowed_batch_sizes[-1] == of_each.max_batch_size.value


def test_monitoring_config_enables_prometheus():
    empty = message("Monitoring", {"prometheus_config": MESSAGE}, {"enable": BOOL, "path": TEXT})
    found = text_format.Parse((SERVE / "monitoring.config").read_text(), empty)
    assert found.prometheus_config.enable and found.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_compose_file_is_valid():
    done = python(
        "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", SERVE / "docker-compose.yaml", cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_file_refers_to_what_exists():
    compose = yaml.safe_load((SERVE / "docker-compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert set(service) <= {"image", "command", "ports", "volumes", "restart", "profiles", "environment", "deploy"}
        # Pinned, and open to this machine only.
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            place = volume.split(":")[0]
            assert place == "../exports" or (SERVE / place).exists()
    for argument in compose["services"]["cpu"]["command"]:
        if "=/serve/" in argument:
            assert (SERVE / argument.split("=/serve/")[1]).is_file()
    gpu = compose["services"]["gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert set(gpu["command"]) - set(compose["services"]["cpu"]["command"]) == {"--per_process_gpu_memory_fraction=0.5"}
    prometheus = yaml.safe_load((SERVE / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"][0]["targets"][0].split(":")[0] in compose["services"]


REQUIRED = {
    "Deployment": ("spec.selector.matchLabels.app", "spec.template.metadata.labels.app"),
    "Service": ("spec.selector.app", "spec.ports"),
    "HorizontalPodAutoscaler": ("spec.scaleTargetRef.name", "spec.minReplicas", "spec.maxReplicas", "spec.metrics"),
    "PodDisruptionBudget": ("spec.minAvailable", "spec.selector.matchLabels.app"),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.resources.requests.storage"),
    "InferenceService": ("spec.predictor.model.modelFormat.name", "spec.predictor.model.storageUri"),
}


def manifests():
    for path in sorted((SERVE / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


@pytest.mark.parametrize("manifest", list(manifests()), ids=lambda each: each["kind"])
def test_kubernetes_manifests_are_valid(manifest):
    if not manifest["apiVersion"].startswith("serving.kserve.io"):  # only KServe has its schema
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    assert manifest["apiVersion"] and manifest["metadata"]["name"]
    for path in REQUIRED[manifest["kind"]]:
        found = manifest
        for key in path.split("."):
            found = found[key]


def flags(arguments):
    """The flags of a server and their values."""
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def test_the_server_is_no_older_than_the_tensorflow_that_writes():
    locked = re.search(r"^tensorflow==(\d+)\.(\d+)", (ROOT / "requirements.lock").read_text(), re.M)
    text = "".join(path.read_text() for path in (*SERVE.glob("*.yaml"), *SERVE.glob("kubernetes/*.yaml")))
    images = re.findall(r"(?:tensorflow/serving:|runtimeVersion: )(\d+)\.(\d+)", text)
    assert len(images) == 4 and all(tuple(map(int, image)) >= tuple(map(int, locked.groups())) for image in images)


def test_a_label_stays_however_many_versions_follow():
    config = text_format.Parse((SERVE / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    for each in config.model_config_list.config:
        assert each.model_version_policy.WhichOneof("policy_choice") == "all"


def test_grafana_finds_its_board_and_its_data():
    mounts = yaml.safe_load((SERVE / "docker-compose.yaml").read_text())["services"]["grafana"]["volumes"]
    targets = {volume.split(":")[1]: volume.split(":")[0] for volume in mounts}
    sources = yaml.safe_load((SERVE / targets["/etc/grafana/provisioning/datasources/trellis.yaml"]).read_text())
    boards = yaml.safe_load((SERVE / targets["/etc/grafana/provisioning/dashboards/trellis.yaml"]).read_text())
    folder = boards["providers"][0]["options"]["path"]
    assert any(target.startswith(f"{folder}/") for target in targets)
    board = json.loads((SERVE / "grafana-dashboard.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {sources["datasources"][0]["uid"]}
    # The metrics of TensorFlow Serving that the board reads, from its sources.
    exported = {"request_count", "request_latency_bucket", "runtime_latency_bucket"}
    for panel in board["panels"]:
        for target in panel["targets"]:
            names = set(re.findall(r'"__name__"=":tensorflow:serving:(\w+)"', target["expr"]))
            assert names and names <= exported, target["expr"]


def test_pods_run_with_few_rights_and_bounded_threads():
    by_kind = {each["kind"]: each for each in manifests()}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    given = flags(container["args"])
    for flag in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "rest_api_num_threads"):
        assert int(given[flag]) > 0
    assert int(given["model_config_file_poll_wait_seconds"]) > 0 and "max_connection_age_ms" in str(given)
    # A status page would answer with 200 whatever became of the model.
    assert all(
        container[probe]["httpGet"]["path"].endswith("/metadata") for probe in ("startupProbe", "readinessProbe")
    )
    assert by_kind["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadOnlyMany"]
    budget = by_kind["PodDisruptionBudget"]["spec"]
    assert budget["selector"] == by_kind["Deployment"]["spec"]["selector"]
    assert budget["minAvailable"] < by_kind["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    headless = [each for each in manifests() if each["spec"].get("clusterIP") == "None"]
    assert [each["kind"] for each in headless] == ["Service"]


def test_kubernetes_parts_fit_together():
    by_kind = {each["kind"]: each for each in manifests()}
    deployment = by_kind["Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} <= ports
    assert by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"].startswith("/v1/models/")
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_dashboard_queries_are_balanced():
    board = json.loads((SERVE / "grafana-dashboard.json").read_text())
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers) >= 4
    for panel in board["panels"]:
        assert panel["targets"] and all(
            target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"]
        )
