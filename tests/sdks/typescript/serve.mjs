// Serves every function as several apps, each with its own checkpointing, until stdin ends.

import http from "node:http";

import { Inngest } from "inngest";
import { serve } from "inngest/node";

import { functionsOf } from "./definitions.mjs";
import "./functions/branches.mjs";
import "./functions/configured.mjs";
import "./functions/errors.mjs";
import "./functions/events.mjs";
import "./functions/invoking.mjs";
import "./functions/steps.mjs";
import { Coded } from "./middleware.mjs";

const { APPS, ORCHESTRATOR, SIGNING_KEY, EVENT_KEY } = process.env;

const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const keys = SIGNING_KEY ? { signingKey: SIGNING_KEY, eventKey: EVENT_KEY } : {};

const handlers = new Map();
for (const { id, checkpointing, coded } of JSON.parse(APPS)) {
  const client = new Inngest({
    id,
    baseUrl: ORCHESTRATOR,
    isDev: !SIGNING_KEY,
    checkpointing,
    logger: quiet,
    middleware: coded ? [Coded] : [],
    ...keys,
  });
  const path = `/api/${id}`;
  handlers.set(path, serve({ client, functions: functionsOf(client), servePath: path }));
}

// A process that was held up closes idle connections before it reads what has come on them.
const patient = { keepAliveTimeout: 600_000 };
const server = http.createServer(patient, (request, response) => {
  const handler = handlers.get(new URL(request.url, "http://127.0.0.1").pathname);
  if (handler) {
    handler(request, response);
  } else {
    response.writeHead(404).end();
  }
});

server.listen(0, "127.0.0.1", () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  const urls = [...handlers.keys()].map((path) => [path.replace("/api/", ""), base + path]);
  console.log(JSON.stringify(Object.fromEntries(urls)));
});
process.stdin.on("end", () => process.exit(0)).resume();
