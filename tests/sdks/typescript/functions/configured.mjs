// Triggers, and how runs are kept apart.

import { cron } from "inngest";

import { define } from "../definitions.mjs";

const used = async ({ step, did, event }) => await step.run("used", did("used", event.data.n));

define("trigger-if", used, (id) => ({
  triggers: [{ event: `${id}/trigger-if`, if: "event.data.n > 10 && event.data.kind in ['a', 'b']" }],
}));

define(
  "several-triggers",
  async ({ step, did, event }) => {
    const name = event.name.split("/")[1];
    return await step.run("used", did(`used-${name}`, name));
  },
  (id) => ({
    triggers: [{ event: `${id}/first` }, { event: `${id}/second`, if: "event.data.n == 2" }],
  }),
);

define("wildcard", used, (id) => ({ triggers: [{ event: `${id}/wild.*` }] }));

define("idempotent", used, (id) => ({ idempotency: "event.data.key" }));

define(
  "batched",
  async ({ step, did, events }) => {
    const numbers = events.map((event) => event.data.n);
    return await step.run("used", did("used", numbers));
  },
  { batchEvents: { maxSize: 3, timeout: "60s" } },
);

define("flow-controlled", used, {
  name: "A function with everything",
  concurrency: [{ limit: 5, key: "event.data.n", scope: "fn" }, { limit: 20 }],
  throttle: { limit: 100, period: "1s", burst: 10, key: "event.data.n" },
  priority: { run: "event.data.n > 1 ? 100 : 0" },
  timeouts: { start: "1h", finish: "1h" },
});

define("rate-limited", used, { rateLimit: { limit: 1, period: "1h", key: "event.data.key" } });

define("debounced", used, { debounce: { period: "4s", key: "event.data.key", timeout: "1m" } });

const patient = async ({ step, app, event }) => {
  const woken = await step.waitForEvent("wait", {
    event: `${app.id}/wake.${event.data.for}`,
    timeout: "1h",
  });
  return [event.data.n, woken.data.value];
};

define("single-skips", patient, { singleton: { mode: "skip", key: "event.data.for" } });

define("single-cancels", patient, { singleton: { mode: "cancel", key: "event.data.for" } });

define(
  "one-at-a-time",
  async ({ step, tell }) => {
    await step.run("alone", async () => {
      tell("enter");
      await new Promise((resolve) => setTimeout(resolve, 30));
      tell("leave");
    });
  },
  { concurrency: 1 },
);

define(
  "finish-timeout",
  async ({ step, did }) => {
    await step.run("before", did("before"));
    await step.sleep("long", "1h");
    await step.run("never", did("never"));
  },
  { timeouts: { finish: "5s" } },
);

define(
  "every-minute",
  async ({ step, did, event, tell }) => {
    tell("cron", event.data?.cron ?? null);
    return await step.run("ticked", did("ticked"));
  },
  { triggers: [cron("* * * * *")] },
);
