"""Who may ask a server, and what a server that does not answer as it should becomes: a sentence and an exit code."""

import json
import shutil
import ssl
import subprocess
import threading
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from headstart_pipelines.cluster.connection import connect
from tests.pipelines.cluster.conftest import TOKEN
from tests.pipelines.cluster.kfp_server import Fault, KfpServer

HEALTH = "healthz_service_get_healthz"


def sentence(answer):
    """What an answer says on standard error: one line, without a traceback, that does not show a secret."""
    assert TOKEN not in answer.out + answer.err
    assert "Traceback" not in answer.err
    (line,) = answer.err.splitlines()
    assert line.startswith("headstart: ")
    return line


# Which server


def test_without_an_address_one_is_asked_for(cli):
    answer = cli("runs")

    assert answer.code == 2
    assert "Name Kubeflow Pipelines' address with --host or HEADSTART_KFP_HOST" in sentence(answer)


@pytest.mark.parametrize("host", ["https://", "ftp://kubeflow.example.com", "https://kfp.example.com:many"])
def test_an_address_that_is_none_is_refused(cli, host):
    answer = cli("runs", "--host", host)

    assert answer.code == 2
    assert "address is not understood" in sentence(answer)


def test_an_address_with_a_password_is_refused_without_showing_it(cli):
    answer = cli("runs", "--host", f"https://me:{TOKEN}@kubeflow.example.com")

    assert answer.code == 2
    assert "holds a user or password" in sentence(answer)


def test_kfps_own_variable_names_the_server_too(kfp, cli, monkeypatch):
    monkeypatch.delenv("HEADSTART_KFP_HOST")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp.host)

    assert cli("runs").code == 0


def test_the_address_of_kfps_page_is_as_good_as_that_of_its_api(kfp, submit, cli):
    kfp.is_page = True
    kfp.multi_user = True

    assert submit("--namespace", "vision").code == 0
    assert kfp.pipelines[0]["namespace"] == "vision"
    assert "plugins_input" in kfp.called("run_service_create_run")[0].body


def test_a_page_whose_api_is_down_is_told_from_one_that_is_up(kfp, cli):
    kfp.is_page = True
    kfp.api_ready = False

    answer = cli("runs")

    assert answer.code == 2
    assert "its API server does not answer there" in sentence(answer)


def test_a_server_that_keeps_users_apart_wants_a_namespace(kfp, cli):
    kfp.multi_user = True

    answer = cli("runs")

    assert answer.code == 2
    assert "--namespace or HEADSTART_KFP_NAMESPACE" in sentence(answer)


@pytest.mark.parametrize("given", ["option", "variable", "context"])
def test_everything_is_done_in_the_namespace(kfp, submit, cli, monkeypatch, tmp_path, given):
    kfp.multi_user = True
    if given == "variable":
        monkeypatch.setenv("HEADSTART_KFP_NAMESPACE", "vision")
    if given == "context":
        (tmp_path / "kfp-context.json").write_text('{"namespace": "vision"}')
    options = ["--namespace", "vision"] if given == "option" else []

    assert submit(*options).code == 0

    assert kfp.pipelines[0]["namespace"] == kfp.experiments[0]["namespace"] == "vision"
    cli("runs", *options)
    assert kfp.called("run_service_list_runs")[-1].parameters["namespace"] == "vision"


def test_a_namespace_means_nothing_to_a_server_without_users(kfp, submit):
    assert submit("--namespace", "vision").code == 0
    assert "namespace" not in kfp.pipelines[0]


def test_a_broken_context_of_kfps_is_named(kfp, cli, tmp_path):
    (tmp_path / "kfp-context.json").write_text("{")

    answer = cli("runs")

    assert answer.code == 2
    assert "kfp-context.json cannot be read" in sentence(answer)


# Who asks


def test_a_token_comes_from_a_file_and_is_read_anew_for_each_request(kfp, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    kfp.token = TOKEN

    server = connect(kfp.host, token_file=file)
    kfp.token = "renewed"
    file.write_text("renewed")

    assert server.runs.run_service_list_runs().runs == []


@pytest.mark.parametrize("variable", ["HEADSTART_KFP_TOKEN", "HEADSTART_KFP_COOKIE", None])
@pytest.mark.parametrize("end", ["\nX-Other: 1", "€"], ids=["line break", "no ASCII"])
def test_a_token_or_cookie_that_cannot_be_sent_is_refused_without_being_shown(
    kfp, cli, monkeypatch, tmp_path, variable, end
):
    (tmp_path / "token").write_text(TOKEN + end)
    if variable:
        monkeypatch.setenv(variable, TOKEN + end)
    answer = cli("runs", *([] if variable else ["--token-file", tmp_path / "token"]))

    assert answer.code == 2
    assert "holds a line break or another character that cannot be sent" in sentence(answer)


def test_a_token_comes_from_the_environment(kfp, cli, monkeypatch):
    kfp.token = TOKEN
    monkeypatch.setenv("HEADSTART_KFP_TOKEN", TOKEN)

    answer = cli("runs")

    assert answer.code == 0
    assert TOKEN not in answer.out + answer.err


def test_a_pods_own_token_is_taken_where_there_is_one(kfp, cli, monkeypatch, tmp_path):
    kfp.token = TOKEN
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))

    assert cli("runs").code == 0


@pytest.mark.parametrize("given", ["variable", "context"])
def test_a_session_of_kubeflow_is_used_by_its_cookie(kfp, cli, monkeypatch, tmp_path, given):
    kfp.cookie = "authservice_session=abc"
    if given == "variable":
        monkeypatch.setenv("HEADSTART_KFP_COOKIE", kfp.cookie)
    else:
        (tmp_path / "kfp-context.json").write_text(
            f'{{"namespace": "", "client_authentication_cookie": "{kfp.cookie}"}}'
        )

    assert cli("runs").code == 0


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read (No such file or directory)"), ("", "is empty"), (b"\xff", "not text")]
)
def test_a_token_file_that_holds_none_is_named(cli, tmp_path, content, said):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    answer = cli("runs", "--host", "http://127.0.0.1:1", "--token-file", file)

    assert answer.code == 2
    assert said in sentence(answer)


@pytest.mark.parametrize("variable", ["HEADSTART_KFP_TOKEN", "HEADSTART_KFP_COOKIE"])
def test_no_credentials_travel_unencrypted(cli, monkeypatch, variable):
    monkeypatch.setenv(variable, TOKEN)

    answer = cli("runs", "--host", "http://kubeflow.example.com")

    assert answer.code == 2
    assert "use https://" in sentence(answer)


@pytest.mark.parametrize("kind", [401, 403, 404, 409, 500, 503])
@pytest.mark.parametrize("credential", ["HEADSTART_KFP_TOKEN", "HEADSTART_KFP_COOKIE"])
def test_a_server_that_repeats_a_credential_does_not_make_it_seen(kfp, cli, monkeypatch, kind, credential):
    monkeypatch.setenv(credential, TOKEN)
    kfp.faults.append(Fault("run_service_list_runs", kind))

    answer = cli("runs")

    assert answer.code in (1, 2)
    sentence(answer)


def test_a_redirect_takes_no_credentials_along(kfp, cli, monkeypatch):
    monkeypatch.setenv("HEADSTART_KFP_TOKEN", TOKEN)
    with KfpServer() as elsewhere:
        asked = []
        elsewhere.healthz_service_get_healthz = lambda **_: asked.append(1) or {}
        kfp.faults.append(Fault(HEALTH, "redirect"))

        answer = cli("runs")

    assert answer.code == 2
    assert "sends us on to login.example.com (302), where no credentials go" in sentence(answer)
    assert asked == []


# What a server may answer

ANSWERS = [
    (401, 2, "does not know who asks (401: a fault of the stand-in); give a valid token with --token-file"),
    (403, 2, "does not allow this (403: a fault of the stand-in); ask for the right"),
    (404, 2, "There is no Kubeflow Pipelines API at"),
    (409, 1, "has it already (409"),
    (429, 2, "is not ready (429"),
    (500, 1, "failed (500: a fault of the stand-in); its log says more: kubectl logs"),
    (503, 2, "is not ready (503: a fault of the stand-in); run again in a while"),
    ("html", 2, "answered with a web page where Kubeflow Pipelines' API was expected"),
    ("truncated", 2, "is broken: it is not JSON"),
    ("half", 2, "broke off its answer"),
    ("closed", 2, "broke off its answer"),
    ("slow", 2, "did not answer within 0.2 seconds"),
]


@pytest.mark.parametrize(("kind", "code", "said"), ANSWERS, ids=[str(kind) for kind, *_ in ANSWERS])
def test_each_wrong_answer_is_a_sentence_and_an_exit_code(kfp, cli, kind, code, said):
    kfp.faults.append(Fault(HEALTH, kind))

    answer = cli("runs", *(["--timeout", "0.2"] if kind == "slow" else []))

    assert answer.code == code
    assert said in sentence(answer)


@pytest.mark.parametrize("operation", [
    "pipeline_service_list_pipelines", "pipeline_service_create_pipeline", "pipeline_service_list_pipeline_versions",
    "upload_pipeline_version", "experiment_service_list_experiments", "experiment_service_create_experiment",
    "run_service_create_run",
])  # fmt: skip
@pytest.mark.parametrize("kind", [403, 500, "truncated", "closed"])
def test_a_submission_ends_with_a_sentence_wherever_it_fails(kfp, submit, operation, kind):
    kfp.faults.append(Fault(operation, kind))

    answer = submit()

    assert answer.code == (1 if kind == 500 or (operation == "run_service_create_run" and kind != 403) else 2)
    sentence(answer)
    assert kfp.runs == []


def test_a_run_whose_answer_did_not_come_is_said_to_be_there_perhaps(kfp, submit):
    kfp.faults.append(Fault("run_service_create_run", "closed"))

    assert "may have been started all the same: `headstart runs --experiment digits` says so" in sentence(submit())


def test_an_answer_of_another_kind_of_server_is_no_traceback(kfp, cli, run_id):
    kfp.faults.append(Fault("run_service_get_run", "strange"))

    answer = cli("runs", run_id)

    assert answer.code == 2
    assert "is no V2beta1Run" in sentence(answer)


def test_times_of_an_answer_are_read_to_the_microsecond_and_no_object_sets_up_loggers_of_its_own(kfp, monkeypatch):
    api = connect(kfp.host).runs.api_client
    monkeypatch.setattr("kfp_server_api.configuration.Configuration.__init__", None)
    tasks = [{"task_id": "a", "start_time": "2026-11-30T06:00:00.123456789Z", "child_tasks": [{"pod_name": "p"}]}]
    body = json.dumps({"run_id": "r", "created_at": "2026-11-30T05:59:58Z", "run_details": {"task_details": tasks}})

    run = api.deserialize(SimpleNamespace(data=body), "V2beta1Run")

    (task,) = run.run_details.task_details
    assert run.created_at == datetime(2026, 11, 30, 5, 59, 58, tzinfo=UTC)
    assert task.start_time == datetime(2026, 11, 30, 6, 0, 0, 123456, tzinfo=UTC)
    assert task.child_tasks[0].pod_name == "p"


def test_a_server_that_is_not_there_is_a_sentence(cli):
    answer = cli("runs", "--host", "http://127.0.0.1:9")

    assert answer.code == 2
    assert "cannot be reached ([Errno 111] Connection refused)" in sentence(answer)


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for localhost that is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "ca.pem"
    how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [shutil.which("openssl"), *how.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key,
         "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def encrypted(authority, kfp):
    """The address under which the stand-in speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    handler = kfp.http.RequestHandlerClass
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("given", ["option", "variable"])
def test_an_authority_of_ones_own_is_trusted_where_it_is_named(encrypted, authority, cli, monkeypatch, given):
    options = ["--ca", authority[0]] if given == "option" else []
    if given == "variable":
        monkeypatch.setenv("HEADSTART_KFP_CA", str(authority[0]))

    assert cli("runs", "--host", encrypted, *options).code == 0


def test_an_unknown_authority_is_not_trusted(encrypted, cli, monkeypatch):
    monkeypatch.setenv("HEADSTART_KFP_TOKEN", TOKEN)

    answer = cli("runs", "--host", encrypted)

    assert answer.code == 2
    assert "cannot be trusted (self-signed certificate); if its certificate is from an authority" in sentence(answer)


def test_a_missing_certificate_file_is_named(cli):
    answer = cli("runs", "--host", "https://localhost:1", "--ca", "missing.pem")

    assert answer.code == 2
    assert "There is no certificate file missing.pem" in sentence(answer)


def test_a_server_without_tls_is_told_from_one_that_is_not_trusted(kfp, cli):
    answer = cli("runs", "--host", kfp.host.replace("http://", "https://"))

    assert answer.code == 2
    assert "does not speak TLS; write http://" in sentence(answer)


def test_nothing_asks_for_more_than_it_needs(kfp, cli):
    """A listing is two requests and the server's sign of life."""
    cli("runs")

    assert [each.operation for each in kfp.requests] == [
        HEALTH, "experiment_service_list_experiments", "run_service_list_runs"
    ]  # fmt: skip
