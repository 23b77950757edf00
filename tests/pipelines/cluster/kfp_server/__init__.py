"""A stand-in for Kubeflow Pipelines' API server on this machine's loopback, for tests.

What it answers to, and with which parameters and bodies, it reads off kfp_server_api, KFP's own generated client. A
request that the real server would not understand is a problem, which the fixture `kfp` fails a test for. Runs advance
by one step whenever somebody looks at them.
"""

from tests.pipelines.cluster.kfp_server.server import KfpServer
from tests.pipelines.cluster.kfp_server.store import Fault
from tests.pipelines.cluster.kfp_server.workflows import START

__all__ = ["START", "Fault", "KfpServer"]
