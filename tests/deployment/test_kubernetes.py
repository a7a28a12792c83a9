"""The Kubernetes manifests: they keep their schemas, fit together, and hold options that envhub takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import started

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
MANIFESTS = [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
SERVERS = [one for one in MANIFESTS if one["kind"] == "Deployment"]
VERSION = "1.31"


def name(manifest: Any) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def named(kind: str, name: str) -> Any:
    (found,) = [one for one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods() -> Iterator[dict[str, Any]]:
    """Every pod that the manifests lead to, but for the ids that their controllers give."""
    for server in SERVERS:
        yield server["spec"]["template"]
    ray = named("RayCluster", "envhub-ray")["spec"]
    yield ray["headGroupSpec"]["template"]
    for group in ray["workerGroupSpecs"]:
        yield group["template"]


def check(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("manifest", [one for one in MANIFESTS if one["kind"] != "RayCluster"], ids=name)
def test_every_manifest_keeps_its_schema(manifest: dict[str, Any]):
    check(manifest)


def test_every_pod_keeps_its_schema_those_of_ray_too():
    for template in pods():
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]})


def test_a_field_that_kubernetes_does_not_know_is_found():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"container": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(pod)


def test_the_ray_cluster_has_what_kuberay_wants():
    ray = named("RayCluster", "envhub-ray")
    assert ray["apiVersion"] == "ray.io/v1"
    assert ray["spec"].keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    groups = [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]
    sizes = {"groupName", "replicas", "minReplicas", "maxReplicas"}
    for group in groups:
        assert group.keys() - sizes == {"rayStartParams", "template"}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert all(sizes <= group.keys() for group in groups[1:])
    assert groups[0]["rayStartParams"]["num-cpus"] == "0"  # no worker of ours beside the head


@pytest.mark.parametrize("server", SERVERS, ids=name)
def test_a_server_finds_its_options_secrets_and_volumes(server: dict[str, Any]):
    pod = server["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert named("ConfigMap", mounted["/etc/envhub"]["configMap"]["name"])["data"].keys() == {"envhub.toml"}
    assert "--config /etc/envhub/envhub.toml" in " ".join([*container["command"], *container.get("args", ())])
    assert named("PersistentVolumeClaim", mounted["/data"]["persistentVolumeClaim"]["claimName"])
    folders = [path for path in mounted if path.startswith("/run/secrets/")]
    for variable in container["env"]:
        if variable["name"].startswith("ENVHUB_"):
            assert variable["value"].rpartition("/")[0] in folders
    assert pod["enableServiceLinks"] is False  # else a Service named envhub-gateway says ENVHUB_GATEWAY_PORT=tcp://...


@pytest.mark.parametrize("server", SERVERS, ids=name)
def test_a_server_is_probed_served_and_has_time_to_drain(server: dict[str, Any], tmp_path: Path):
    called = server["metadata"]["name"]
    pod = server["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/readyz", "/healthz"]
    assert {probe["port"] for probe in probes.values()} <= ports.keys()
    service = named("Service", called)["spec"]
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    labels = server["spec"]["template"]["metadata"]["labels"]
    disruption = named("PodDisruptionBudget", called)["spec"]
    assert service["selector"] == labels == disruption["selector"]["matchLabels"]
    assert server["spec"]["strategy"] == {"type": "Recreate"}  # two managers would want one run

    file = tmp_path / "envhub.toml"
    file.write_text(named("ConfigMap", called)["data"]["envhub.toml"])
    with started(tmp_path, "config", "check", str(file), "--json") as running:
        checked = running.end().json
    assert checked["mistakes"] == []
    options = {option["option"]: option["value"] for option in checked["options"]}
    assert float(options["drain"]) < pod["terminationGracePeriodSeconds"]
    assert {options[f"{port}_port"] for port in ports} == {str(number) for number in ports.values()}
    assert options["host"] == options["feed_host"] == "0.0.0.0"
