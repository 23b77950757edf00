"""The stand-in alone, to look at the commands in a terminal."""

import time

from tests.pipelines.cluster.kfp_server import KfpServer

with KfpServer() as server:
    print(server.host, flush=True)
    time.sleep(3600)
