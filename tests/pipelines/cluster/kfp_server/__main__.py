"""The stand-in alone, with every recorded run, to look at the commands in a terminal."""

import time

from tests.pipelines.cluster.kfp_server import KfpServer, recordings

with KfpServer() as server:
    for case in recordings.cases():
        server.replay(case)["display_name"] = case
    print(server.host, flush=True)
    time.sleep(3600)
