// Events that are awaited, sent, and that cancel; signals.

import { define } from "../definitions.mjs";

define("wait", async ({ step, did, app, event }) => {
  const before = await step.run("before", did("before"));
  const name = `${app.id}/wake.${event.data.for}`;
  const woken = await step.waitForEvent("wait", { event: name, timeout: "1h" });
  return [before, woken.name, woken.data, await step.run("after", did("after"))];
});

define("wait-timeout", async ({ step, did, app }) => {
  const woken = await step.waitForEvent("wait", { event: `${app.id}/wake.never`, timeout: 100 });
  return [woken, await step.run("after", did("after"))];
});

define("wait-if", async ({ step, app }) => {
  const woken = await step.waitForEvent("wait", {
    event: `${app.id}/wake.if`,
    timeout: "1h",
    if: "async.data.total > 100 && event.data.order == async.data.order",
  });
  return woken.data;
});

define("wait-match", async ({ step, app }) => {
  const woken = await step.waitForEvent("wait", {
    event: `${app.id}/wake.match`,
    timeout: "1h",
    match: "data.order",
  });
  return woken.data;
});

define("wait-twice", async ({ step, did, app }) => {
  const values = [];
  for (const n of [1, 2]) {
    const woken = await step.waitForEvent(`wait-${n}`, {
      event: `${app.id}/wake.twice`,
      timeout: "1h",
    });
    values.push(await step.run(`use-${n}`, did(`use-${n}`, woken.data.value)));
  }
  return values;
});

define("wait-either", async ({ step, group, did, app }) => {
  const waited = async (name) => {
    const woken = await step.waitForEvent(`wait-${name}`, {
      event: `${app.id}/wake.${name}`,
      timeout: "1h",
    });
    return woken.data.value;
  };
  const value = await group.parallel(async () =>
    Promise.race([waited("approved"), waited("rejected")]),
  );
  return await step.run("after", did("after", value));
});

define("wait-then-timeout", async ({ step, did, app }) => {
  const woken = await step.waitForEvent("wait", { event: `${app.id}/wake.soon`, timeout: "1h" });
  const later = await step.waitForEvent("later", { event: `${app.id}/wake.soon`, timeout: 150 });
  return [woken.data.value, later, await step.run("after", did("after"))];
});

define("send-event", async ({ step, did, app, event }) => {
  const sent = await step.sendEvent("tell", {
    name: `${app.id}/received`,
    data: { from: event.data.who },
  });
  return { count: sent.ids.length, after: await step.run("after", did("after")) };
});

define("received", async ({ step, did, event }) => {
  return await step.run("got", did("got", event.data.from));
});

define("send-events", async ({ step, app }) => {
  const payloads = [1, 2, 3].map((n) => ({ name: `${app.id}/received`, data: { from: n } }));
  const sent = await step.sendEvent("tell", payloads);
  return sent.ids.length;
});

define("send-event-once", async ({ step, app, event, shaky }) => {
  for (const n of [1, 2]) {
    await step.sendEvent(`tell-${n}`, {
      id: `only-${event.data.key}`,
      name: `${app.id}/received`,
      data: { from: event.data.key },
    });
  }
  shaky("between", 1)();
  return "sent";
});

define("send-outside", async ({ step, app }) => {
  return await step.run("send", async () => {
    const sent = await app.send({ name: `${app.id}/received`, data: { from: "outside" } });
    return sent.ids.length;
  });
});

define("wait-signal", async ({ step, did, event }) => {
  const woken = await step.waitForSignal("wait", { signal: event.data.signal, timeout: "1h" });
  return [woken, await step.run("after", did("after"))];
});

define("wait-signal-timeout", async ({ step, event }) => {
  return await step.waitForSignal("wait", { signal: event.data.signal, timeout: 100 });
});

define("send-signal", async ({ step, did, event }) => {
  await step.sendSignal("send", { signal: event.data.signal, data: { from: "a function" } });
  return await step.run("after", did("after"));
});

define(
  "wait-signal-taken",
  async ({ step, event, tell }) => {
    const woken = await step.waitForSignal("wait", {
      signal: event.data.signal,
      timeout: "1h",
      onConflict: event.data.onConflict,
    });
    tell("woken");
    return woken?.data ?? null;
  },
  { retries: 0 },
);

define(
  "cancelled",
  async ({ step, did }) => {
    await step.run("before", did("before"));
    await step.sleep("long", "1h");
    await step.run("never", did("never"));
  },
  (id) => ({ cancelOn: [{ event: `${id}/cancel` }] }),
);

define(
  "cancelled-if",
  async ({ step, did, app, event }) => {
    await step.run("before", did("before"));
    const woken = await step.waitForEvent("wait", {
      event: `${app.id}/wake.kept`,
      timeout: "1h",
      if: `async.data.order == '${event.data.order}'`,
    });
    return woken.data.value;
  },
  (id) => ({
    cancelOn: [{ event: `${id}/cancel-if`, if: "async.data.order == event.data.order" }],
  }),
);

define(
  "cancelled-match",
  async ({ step, app }) => {
    const woken = await step.waitForEvent("wait", { event: `${app.id}/wake.match2`, timeout: "1h" });
    return woken.data.value;
  },
  (id) => ({ cancelOn: [{ event: `${id}/cancel-match`, match: "data.order" }] }),
);
