"""Worker processes: started, handed over and ended without ``multiprocessing``.

::

    task process                         fork server (one child, single-threaded)      workers
    ForkServerClient --- control socket --> serve(): imports the stage functions
       .spawn(stage)  sends a socket --> fork() ------------------------------> worker_main(): its own socket
       .reap(pid)     asks ------------> wait4(): exit status
    worker thread <================= socket of the pair, frames of wire.py =====> calls of the stage's function

``multiprocessing`` (spawn, forkserver, Manager), ``ProcessPoolExecutor`` and loky all fail in a real Airflow task or
under Celery's daemonic workers; a plain child process works everywhere. The fork server pays for imports once, forks a
worker in about 2 ms, and its death takes all workers with it (PR_SET_PDEATHSIG).
"""
