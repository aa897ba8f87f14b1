// The store's schema by its numbers: each step brings it from its index to the next number, and those that were released never change.

/** Hosts and prefixes of version 1 are the same as in `places`, which finds who has one without reading all services. */
const RESOURCES = `
  ALTER TABLE agents ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
  ALTER TABLE agents ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
  ALTER TABLE agents ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE agents ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE agents ADD COLUMN expires_at INTEGER;
  ALTER TABLE agents ADD COLUMN created_at INTEGER;
  ALTER TABLE agents ADD COLUMN rotated_at INTEGER;
  DROP INDEX agent_services_by_service;
  CREATE INDEX agent_services_by_service ON agent_services(service, agent);
  CREATE INDEX agents_by_expiry ON agents(expires_at) WHERE expires_at IS NOT NULL;
  ALTER TABLE services ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
  ALTER TABLE services ADD COLUMN origin TEXT;
  ALTER TABLE services ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
  ALTER TABLE services ADD COLUMN created_at INTEGER;
  CREATE TABLE places (
    host TEXT NOT NULL, prefix TEXT NOT NULL, service TEXT NOT NULL REFERENCES services(name) ON DELETE CASCADE, PRIMARY KEY (host, prefix)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX places_by_service ON places(service);
  INSERT INTO places (host, prefix, service)
    SELECT DISTINCT host.value, prefix.value, services.name FROM services, json_each(services.hosts) AS host, json_each(services.prefixes) AS prefix;
  CREATE TABLE tokens (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, hash BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER
  ) STRICT;
  CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, who TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
  CREATE INDEX history_by_subject ON history(subject, id);
  CREATE INDEX history_by_kind ON history(kind, id);
  CREATE TABLE exchanges (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, uuid TEXT NOT NULL, service TEXT NOT NULL, agent TEXT, method TEXT NOT NULL, path TEXT NOT NULL,
    status INTEGER, error TEXT, wait_ms REAL NOT NULL, head_ms REAL, total_ms REAL NOT NULL, sent_bytes INTEGER NOT NULL, received_bytes INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX exchanges_by_uuid ON exchanges(uuid);
  CREATE INDEX exchanges_by_service ON exchanges(service, id);
  CREATE INDEX exchanges_by_agent ON exchanges(agent, id) WHERE agent IS NOT NULL;
  CREATE INDEX exchanges_by_error ON exchanges(error, id) WHERE error IS NOT NULL;
  CREATE TABLE creations (key TEXT PRIMARY KEY, request BLOB NOT NULL, location TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
  CREATE INDEX creations_by_age ON creations(at);`

/** What history and exchanges take on the disk, with their indexes, as near as a few percent; a sum kept by the store itself goes with every row, whoever writes or deletes it. */
const SIZES = `
  ALTER TABLE history ADD COLUMN size INTEGER GENERATED ALWAYS AS (60 + 2 * octet_length(kind) + 2 * octet_length(subject) + octet_length(who) + octet_length(detail)) VIRTUAL;
  ALTER TABLE exchanges ADD COLUMN size INTEGER GENERATED ALWAYS AS (
    100 + 2 * octet_length(uuid) + 2 * octet_length(service) + 2 * octet_length(coalesce(agent, '')) + octet_length(method) + octet_length(path) + 2 * octet_length(coalesce(error, ''))
  ) VIRTUAL;
  CREATE TABLE sizes (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
  INSERT INTO sizes SELECT 'history', coalesce(sum(size), 0) FROM history;
  INSERT INTO sizes SELECT 'exchanges', coalesce(sum(size), 0) FROM exchanges;
  CREATE TRIGGER history_grows AFTER INSERT ON history BEGIN UPDATE sizes SET bytes = bytes + NEW.size WHERE name = 'history'; END;
  CREATE TRIGGER history_shrinks AFTER DELETE ON history BEGIN UPDATE sizes SET bytes = bytes - OLD.size WHERE name = 'history'; END;
  CREATE TRIGGER exchanges_grow AFTER INSERT ON exchanges BEGIN UPDATE sizes SET bytes = bytes + NEW.size WHERE name = 'exchanges'; END;
  CREATE TRIGGER exchanges_shrink AFTER DELETE ON exchanges BEGIN UPDATE sizes SET bytes = bytes - OLD.size WHERE name = 'exchanges'; END;`

export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
   CREATE TABLE agents (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
   CREATE TABLE services (name TEXT PRIMARY KEY, hosts TEXT NOT NULL, prefixes TEXT NOT NULL, conceal INTEGER NOT NULL, trailers INTEGER NOT NULL) STRICT;
   CREATE TABLE agent_services (agent TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE, service TEXT NOT NULL REFERENCES services(name), PRIMARY KEY (agent, service)) STRICT;
   CREATE INDEX agent_services_by_service ON agent_services(service);`,
  RESOURCES,
  SIZES,
]
