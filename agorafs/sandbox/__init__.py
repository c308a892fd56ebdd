"""An embedded Agora-compatible server, for the demo and for tests.

It answers the URLs of a GyroTools Agora server as far as logging in, reading and importing need them, keeps
everything in one directory, loses nothing it confirmed, and can be told to misbehave. It imports nothing from the
rest of agorafs, so that it can contradict it; the vendor's Python connector is the judge of both.

::

    run            the command line
    server         HTTP: faults, credentials, bodies, downloads   routing, responses, chunks, control, request_log
    endpoints/     one function per call of the API               calls, lists, serialise, deletion, copying
    imports        packages and their background import           assembly, analysis/, plan, importing
    tasks/         tasks, run in a restricted subprocess          timeline
    store          SQLite and contents                            schema, contents, objects, accounts, auth
    switches       what can be decided differently                faults

Modules further down know nothing of those above.
"""
