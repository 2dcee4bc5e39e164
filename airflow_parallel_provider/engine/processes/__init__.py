# SPDX-License-Identifier: Apache-2.0
"""Worker processes: started, connected and ended without ``multiprocessing``.

::

    task process                       fork server (one child, single-threaded)       worker processes
    ForkServerClient -- control socket --> serve(): imports the stage functions
       .spawn(stage)   sends a socket ---> fork() ----------------------------------> WorkerMain, with that socket
       .reap(pid)      asks -------------> wait4(): exit status
    ProcessWorker <================= that socket, frames of ipc/wire.py ============> calls of the stage's function

``multiprocessing`` (spawn, forkserver, Manager), ``ProcessPoolExecutor`` and loky all fail in a real Airflow task or
under Celery's daemonic workers; a plain child process works everywhere. The fork server imports the functions' modules
once, forks a worker process in about 2 ms, and its death ends all worker processes (PR_SET_PDEATHSIG). A guardian
between task process and fork server ends what is left, programs of the stage's functions included (:mod:`.guardian`).
"""
