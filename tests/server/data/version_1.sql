BEGIN TRANSACTION;
CREATE TABLE apps (name TEXT PRIMARY KEY, url TEXT NOT NULL, registration TEXT NOT NULL) STRICT;
INSERT INTO "apps" VALUES('app','http://127.0.0.1:9/x','{"appName":"app","url":"http://127.0.0.1:9/x","functions":[{"id":"app-f","triggers":[{"event":"app/f"}],"steps":{"step":{"runtime":{"type":"http","url":"http://127.0.0.1:9/x?fnId=app-f&stepId=step"},"retries":{"attempts":3}}}}]}');
CREATE TABLE continuations (
    run_id TEXT NOT NULL, op_id TEXT NOT NULL, PRIMARY KEY (run_id, op_id)) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, external_id TEXT NOT NULL, name TEXT NOT NULL, event TEXT NOT NULL,
    received_ms INTEGER NOT NULL) STRICT;
INSERT INTO "events" VALUES('01M84JVQSP12XPC2AJ6ZSZRNV7','order-ended','app/f','{"data":{"n":"ended"},"id":"order-ended","name":"app/f","ts":1795450330934,"user":{}}',1795450330934);
INSERT INTO "events" VALUES('01M84JVQT14KKVPDD0TNTM27VS','order-sleeping','app/f','{"data":{"n":"sleeping"},"id":"order-sleeping","name":"app/f","ts":1795450330945,"user":{}}',1795450330946);
INSERT INTO "events" VALUES('01M84JVQT768ZT784RR4HS8C5Q','order-waiting','app/f','{"data":{"n":"waiting"},"id":"order-waiting","name":"app/f","ts":1795450330951,"user":{}}',1795450330953);
INSERT INTO "events" VALUES('01M84JVQTE6MDN449AQ0G0JVVP','order-retrying','app/f','{"data":{"n":"retrying"},"id":"order-retrying","name":"app/f","ts":1795450330958,"user":{}}',1795450330959);
INSERT INTO "events" VALUES('01M84JVQTJB69JE9203QW1ST1G','order-called','app/f','{"data":{"n":"called"},"id":"order-called","name":"app/f","ts":1795450330962,"user":{}}',1795450330962);
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, target TEXT NOT NULL, attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL, request_id TEXT NOT NULL, due_ms INTEGER NOT NULL,
    position INTEGER NOT NULL, planned INTEGER NOT NULL, solo INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
INSERT INTO "jobs" VALUES('2ayi5nuvqlbsw','01M84JVQTF33DK0FBM3GRYBZV2','step',1,1,'01M84JVQTG5AJ9CHTAB9GXY8WJ',1795453329599,1,0,1);
INSERT INTO "jobs" VALUES('2cyeg8ntofk8m','01M84JVQTJB69JE9203QW1ST1H','step',0,1,'01M84JVQTR8F31S7KWPVVR924E',0,1,0,1);
CREATE TABLE pending (
    run_id TEXT NOT NULL, step_id TEXT NOT NULL, code TEXT NOT NULL, race INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, event TEXT NOT NULL, condition TEXT NOT NULL,
    PRIMARY KEY (run_id, step_id)) STRICT, WITHOUT ROWID;
INSERT INTO "pending" VALUES('01M84JVQT22EPS5NPR193YYRJJ','c2640f79b4ed481b838ce4ad75330aa3f825d4d9','Sleep',0,1795453930953,'nap','');
INSERT INTO "pending" VALUES('01M84JVQT803R5MHB8XR3J5YJ3','daaad336276d15594d0e765f96c17cd746bf4971','WaitForEvent',0,1795457530959,'app/go','');
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, function_id TEXT NOT NULL, event_id TEXT NOT NULL,
    event_names TEXT NOT NULL, events TEXT NOT NULL, version INTEGER NOT NULL DEFAULT -1,
    status TEXT NOT NULL DEFAULT 'Running', started_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL DEFAULT 0, output TEXT NOT NULL DEFAULT 'null') STRICT;
INSERT INTO "runs" VALUES('01M84JVQSP12XPC2AJ6ZSZRNV8','app-f','01M84JVQSP12XPC2AJ6ZSZRNV7','app/f','[{"data":{"n":"ended"},"id":"order-ended","name":"app/f","ts":1795450330934,"user":{}}]',2,'Completed',1795450330934,1795450330944,'"done"');
INSERT INTO "runs" VALUES('01M84JVQT22EPS5NPR193YYRJJ','app-f','01M84JVQT14KKVPDD0TNTM27VS','app/f','[{"data":{"n":"sleeping"},"id":"order-sleeping","name":"app/f","ts":1795450330945,"user":{}}]',2,'Running',1795450330946,0,'null');
INSERT INTO "runs" VALUES('01M84JVQT803R5MHB8XR3J5YJ3','app-f','01M84JVQT768ZT784RR4HS8C5Q','app/f','[{"data":{"n":"waiting"},"id":"order-waiting","name":"app/f","ts":1795450330951,"user":{}}]',2,'Running',1795450330952,0,'null');
INSERT INTO "runs" VALUES('01M84JVQTF33DK0FBM3GRYBZV2','app-f','01M84JVQTE6MDN449AQ0G0JVVP','app/f','[{"data":{"n":"retrying"},"id":"order-retrying","name":"app/f","ts":1795450330958,"user":{}}]',2,'Running',1795450330959,0,'null');
INSERT INTO "runs" VALUES('01M84JVQTJB69JE9203QW1ST1H','app-f','01M84JVQTJB69JE9203QW1ST1G','app/f','[{"data":{"n":"called"},"id":"order-called","name":"app/f","ts":1795450330962,"user":{}}]',2,'Running',1795450330962,0,'null');
CREATE TABLE steps (
    run_id TEXT NOT NULL, position INTEGER NOT NULL, step_id TEXT NOT NULL, name TEXT NOT NULL,
    entry TEXT NOT NULL, PRIMARY KEY (run_id, position)) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES('01M84JVQT22EPS5NPR193YYRJJ',0,'e0996a37c13d44c3b06074939d43fa3759bd32c1','first','{"data":"kept"}');
INSERT INTO "steps" VALUES('01M84JVQT803R5MHB8XR3J5YJ3',0,'e0996a37c13d44c3b06074939d43fa3759bd32c1','first','{"data":"kept"}');
INSERT INTO "steps" VALUES('01M84JVQTF33DK0FBM3GRYBZV2',0,'e0996a37c13d44c3b06074939d43fa3759bd32c1','first','{"data":"kept"}');
INSERT INTO "steps" VALUES('01M84JVQTJB69JE9203QW1ST1H',0,'e0996a37c13d44c3b06074939d43fa3759bd32c1','first','{"data":"kept"}');
CREATE INDEX events_by_external_id ON events (external_id) WHERE external_id != '';
CREATE INDEX runs_by_event ON runs (event_id);
CREATE INDEX runs_unfinished ON runs (run_id) WHERE status = 'Running';
CREATE INDEX jobs_by_run ON jobs (run_id);
COMMIT;
