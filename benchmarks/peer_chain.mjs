// The chain that benchmarks/chain.py measures, on npm's inngest: serves until stdin ends.

import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(process.env.PACKAGES);
const { Inngest } = require("inngest");
const { serve } = require("inngest/node");

const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const client = new Inngest({ id: "chain-js", logger: quiet });
const begun = new Map();

function chain(id, checkpointing) {
  const settings = { id, checkpointing, triggers: [{ event: `chain-js/${id}` }] };
  return client.createFunction(settings, async ({ step, event, runId }) => {
    if (!begun.has(runId)) {
      begun.set(runId, performance.now());
    }
    for (let number = 0; number < event.data.steps; number++) {
      await step.run(`step-${number}`, () => ({ number, ok: true }));
    }
    return { seconds: (performance.now() - begun.get(runId)) / 1000 };
  });
}

const functions = [
  chain("confirmed", true),
  chain("buffered", { bufferedSteps: 10 }),
  chain("classic", false),
];
http
  .createServer({ keepAliveTimeout: 600_000 }, serve({ client, functions, servePath: "/api/inngest" }))
  .listen(Number(process.env.PORT), "127.0.0.1");
process.stdin.on("end", () => process.exit(0)).resume();
