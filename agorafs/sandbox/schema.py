"""The tables of the sandbox, as SQL.

Why.  Everything a client was told with a 2xx must survive ``kill -9``; SQLite's write-ahead log with
``synchronous=FULL`` gives that, and one file is easy to look into when a test fails.

Conventions.  ``trash`` is NULL for a living object and the id of the trash entry that took it otherwise, so
that one deletion is one value in many rows. Times are ISO 8601 UTC text. Sizes are bytes. Booleans are 0/1.
``content_type`` uses the archive's own words: ``folder``, ``exam``, ``serie``, ``dataset``, ``patient``.

The views ``live_*`` are what reading endpoints select from: without the trash, and with the lock and the
project that an object inherits from its exam.
"""

from __future__ import annotations

SCHEMA_VERSION = 3

SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,               -- salted scrypt, see auth.py
    email TEXT NOT NULL DEFAULT '',
    first_name TEXT NOT NULL DEFAULT '',
    last_name TEXT NOT NULL DEFAULT '',
    institution TEXT NOT NULL DEFAULT '',
    is_superuser INTEGER NOT NULL DEFAULT 0,
    api_key TEXT UNIQUE                   -- NULL: the user has none (or it was revoked)
);
CREATE TABLE token (key TEXT PRIMARY KEY, user INTEGER NOT NULL REFERENCES user(id));

CREATE TABLE project (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    owner INTEGER NOT NULL REFERENCES user(id),
    root_folder INTEGER,
    is_myagora INTEGER NOT NULL DEFAULT 0,
    created_date TEXT NOT NULL,
    trash INTEGER
);
CREATE TABLE membership (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    user INTEGER NOT NULL REFERENCES user(id),
    role INTEGER NOT NULL,
    UNIQUE (project, user)
);

CREATE TABLE folder (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    project INTEGER NOT NULL REFERENCES project(id),
    locked INTEGER NOT NULL DEFAULT 0,
    trash INTEGER
);
CREATE INDEX folder_project ON folder (project);
CREATE TABLE folder_item (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    folder INTEGER NOT NULL REFERENCES folder(id),
    content_type TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    is_link INTEGER NOT NULL,
    modified_date TEXT NOT NULL,
    content TEXT,                         -- JSON, for content types this server has no table for
    trash INTEGER
);
CREATE INDEX folder_item_folder ON folder_item (folder);
CREATE INDEX folder_item_object ON folder_item (content_type, object_id);

CREATE TABLE patient (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    patient_id TEXT,
    name TEXT NOT NULL,
    birth_date TEXT,
    sex TEXT,
    weight REAL,
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL,
    trash INTEGER
);
CREATE INDEX patient_patient_id ON patient (patient_id);

CREATE TABLE exam (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    patient INTEGER REFERENCES patient(id),
    owner INTEGER REFERENCES user(id),
    uid TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    scanner_name TEXT NOT NULL DEFAULT '',
    vendor INTEGER NOT NULL DEFAULT 1,
    start_time TEXT,
    created_date TEXT NOT NULL,
    locked INTEGER NOT NULL DEFAULT 0,
    trash INTEGER
);
CREATE INDEX exam_project ON exam (project);
CREATE INDEX exam_patient ON exam (patient);
CREATE INDEX exam_uid ON exam (uid);

CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    exam INTEGER NOT NULL REFERENCES exam(id),
    uid TEXT NOT NULL,
    name TEXT NOT NULL,
    time TEXT,
    acquisition_number INTEGER,
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL,
    trash INTEGER
);
CREATE INDEX series_exam ON series (exam);
CREATE INDEX series_uid ON series (uid);

CREATE TABLE dataset (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    series INTEGER REFERENCES series(id),
    exam INTEGER REFERENCES exam(id),     -- only when attached to the exam itself
    name TEXT NOT NULL,
    type INTEGER NOT NULL,
    mime_type TEXT NOT NULL,
    total_size INTEGER NOT NULL DEFAULT 0,
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL,
    trash INTEGER
);
CREATE INDEX dataset_series ON dataset (series);
CREATE INDEX dataset_exam ON dataset (exam);
CREATE INDEX dataset_project ON dataset (project);

CREATE TABLE datafile (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES dataset(id),
    original_filename TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha1 TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL
);
CREATE INDEX datafile_dataset ON datafile (dataset);
CREATE INDEX datafile_sha1 ON datafile (sha1);

CREATE TABLE parameter_set (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_type TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    read_only INTEGER NOT NULL DEFAULT 1,
    parameters TEXT NOT NULL              -- JSON list of {"Name": …, "Value": …}
);
CREATE INDEX parameter_set_object ON parameter_set (content_type, object_id);

CREATE TABLE tag_definition (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    label TEXT NOT NULL,
    user INTEGER REFERENCES user(id),     -- the owner of a tag that belongs to no project
    project INTEGER REFERENCES project(id),
    group_name TEXT,
    color TEXT,
    visibility INTEGER NOT NULL,
    scope INTEGER NOT NULL
);
CREATE TABLE tag_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tag_definition INTEGER NOT NULL REFERENCES tag_definition(id),
    tagged_object_content_type TEXT NOT NULL,
    tagged_object_id INTEGER NOT NULL,
    UNIQUE (tagged_object_content_type, tagged_object_id, tag_definition)
);
CREATE TABLE rating (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_type TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    value INTEGER NOT NULL,
    UNIQUE (content_type, object_id)
);

CREATE TABLE relation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    from_type TEXT NOT NULL, from_id INTEGER NOT NULL,
    to_type TEXT NOT NULL, to_id INTEGER NOT NULL
);

CREATE TABLE trash_entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER,
    content_type TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    deleted_date TEXT NOT NULL
);

CREATE TABLE import_package (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES user(id),
    state INTEGER NOT NULL DEFAULT 1,     -- 1 uploading, 2 completed and waiting, 5 finished, -1 failed
    request TEXT,                         -- JSON body of "complete"; NULL until then
    result TEXT,                          -- JSON {"datafiles": […], "objects": […], "ignored": […]}
    error TEXT,
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL,
    complete_date TEXT
);
CREATE TABLE flow_file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    package INTEGER NOT NULL REFERENCES import_package(id),
    identifier TEXT NOT NULL,
    target TEXT NOT NULL,
    total_size INTEGER NOT NULL,
    total_chunks INTEGER NOT NULL,
    content_hash TEXT,                    -- SHA-256 of the joined file, once computed
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    UNIQUE (package, identifier)
);
CREATE TABLE chunk (
    flow_file INTEGER NOT NULL REFERENCES flow_file(id),
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    file TEXT NOT NULL,                   -- name below imports/<package>/
    PRIMARY KEY (flow_file, number)
);

CREATE TABLE timeline (                   -- what takes time: runs of tasks, copies, moves; see timeline.py
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES user(id),
    project INTEGER,
    first_state INTEGER NOT NULL,
    state INTEGER NOT NULL,
    data TEXT NOT NULL,                   -- JSON object: all of the item's "data" but its state
    created TEXT NOT NULL
);
CREATE TABLE task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    owner INTEGER NOT NULL REFERENCES user(id),
    name TEXT NOT NULL,
    body TEXT NOT NULL                    -- JSON object: all other fields, unknown ones too
);
CREATE TABLE script_task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    owner INTEGER NOT NULL REFERENCES user(id),
    name TEXT NOT NULL,
    body TEXT NOT NULL                    -- JSON object: "yml" as it came, and unknown fields
);
CREATE TABLE task_part (                  -- gives the inputs and outputs of tasks their ids
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task INTEGER NOT NULL
);
CREATE TABLE task_result (                -- results of a run on the object are in the folder
    folder INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    PRIMARY KEY (content_type, object_id, folder)
);
CREATE TABLE host (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project(id),
    name TEXT NOT NULL,
    body TEXT NOT NULL                    -- JSON object: all other fields, untouched
);

CREATE VIEW live_exam AS SELECT * FROM exam WHERE trash IS NULL;
CREATE VIEW live_series AS
    SELECT s.*, e.project AS project, e.locked AS locked
    FROM series s JOIN exam e ON e.id = s.exam WHERE s.trash IS NULL;
CREATE VIEW live_dataset AS
    SELECT d.*, COALESCE(e.locked, 0) AS locked, e.id AS owner_exam
    FROM dataset d LEFT JOIN series s ON s.id = d.series
    LEFT JOIN exam e ON e.id = COALESCE(d.exam, s.exam) WHERE d.trash IS NULL;
CREATE VIEW live_item AS
    SELECT i.*, f.project AS project
    FROM folder_item i JOIN folder f ON f.id = i.folder WHERE i.trash IS NULL;

CREATE TABLE workbook (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES dataset(id),
    user INTEGER NOT NULL REFERENCES user(id),
    content TEXT NOT NULL,                -- JSON as the client sent it, without what the other columns say
    created_date TEXT NOT NULL,
    modified_date TEXT NOT NULL
);
CREATE INDEX workbook_dataset ON workbook (dataset);
CREATE TABLE download_file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES user(id),
    name TEXT NOT NULL,
    files TEXT NOT NULL,                  -- JSON list of [path in the zip, SHA-1]
    is_compressed INTEGER NOT NULL,
    created_date TEXT NOT NULL
);
"""
