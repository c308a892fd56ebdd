"""The API's endpoints, one module per noun; ``ROUTES`` is all of them.

Each endpoint is a plain function from a ``Call`` to an answer. Routes serve ``/api/v1`` and ``/api/v2`` alike;
where the two differ the function looks at ``call.version``.
"""

from __future__ import annotations

from agorafs.sandbox.calls import Route
from agorafs.sandbox.endpoints import (
    datasets,
    downloads,
    exams,
    folders,
    hosts,
    imports,
    moving,
    parametersets,
    patients,
    projects,
    search,
    series,
    shared,
    system,
    tags,
    tasks,
    timeline,
    trash,
    workbooks,
)

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *projects.ROUTES,
    *folders.ROUTES,
    *exams.ROUTES,
    *series.ROUTES,
    *datasets.ROUTES,
    *patients.ROUTES,
    *shared.ROUTES,
    *tags.ROUTES,
    *parametersets.ROUTES,
    *trash.ROUTES,
    *imports.ROUTES,
    *tasks.ROUTES,
    *timeline.ROUTES,
    *hosts.ROUTES,
    *moving.ROUTES,
    *search.ROUTES,
    *workbooks.ROUTES,
    *downloads.ROUTES,
)
