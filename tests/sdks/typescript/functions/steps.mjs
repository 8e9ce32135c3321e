// One step after the other.

import { define } from "../definitions.mjs";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

define("sequential", async ({ step, tell, event }) => {
  const one = await step.run("one", () => (tell("one"), event.data.n + 1));
  const two = await step.run("two", () => (tell("two"), one * 10));
  return await step.run("three", () => (tell("three"), { one, two }));
});

define("no-steps", async ({ tell, event }) => {
  tell("body");
  return `hello ${event.data.who}`;
});

define("context", async ({ step, event, events, runId, attempt }) => {
  const seen = await step.run("seen", () => ({ name: event.name, data: event.data }));
  return { seen, events: events.length, hasRun: runId.length === 26, attempt, id: event.id };
});

define("many-steps", async ({ step, tell, event }) => {
  let sum = 0;
  for (let n = 0; n < event.data.steps; n++) {
    sum += await step.run(`step-${n}`, () => (tell("step"), n));
  }
  return sum;
});

define("slow-steps", async ({ step, tell, event }) => {
  tell("function");
  const done = [];
  for (let n = 0; n < event.data.steps; n++) {
    done.push(
      await step.run(`slow-${n}`, async () => {
        await pause(event.data.ms);
        tell(`slow-${n}`);
        return n;
      }),
    );
  }
  return done;
});

define("repeated-ids", async ({ step, tell }) => {
  const results = [];
  for (let n = 0; n < 5; n++) {
    results.push(await step.run("same", () => (tell(`same-${n}`), n)));
  }
  return results;
});

define("looks-repeated", async ({ step, did }) => {
  const results = [];
  for (const n of [0, 1]) {
    results.push(await step.run("same", did(`same-${n}`, n)));
  }
  results.push(await step.run("same:1", did("own")));
  return results;
});

define("values", async ({ step, did }) => {
  const values = {
    null: null,
    false: false,
    zero: 0,
    empty: "",
    list: [],
    object: {},
    float: 0.1,
    large: 9007199254740991,
    negative: -1,
    nested: { a: [{ b: [null, [1, [2]]] }] },
    unicode: "grüße, 世界 🌍 \u0000\u2028 \"\\",
    keys: { "a.b": 1, $x: 2, "": 3, "öä": 4, data: 5, error: 6 },
  };
  const results = {};
  for (const [name, value] of Object.entries(values)) {
    results[name] = await step.run(`value-${name}`, did(name, value));
  }
  await step.sleep("replayed", 10);
  return results;
});

define("unicode-ids", async ({ step, did }) => {
  const one = await step.run("schritt größe 🌍", did("one"));
  const two = await step.run("a/b?c=d&e\u0000\"", did("two"));
  return [one, two];
});

define("returns-nothing", async ({ step, tell }) => {
  const value = await step.run("nothing", () => void tell("nothing"));
  return await step.run("seen", () => (tell("seen"), value ?? null));
});

define("returns-null", async ({ step, did }) => {
  await step.run("one", did("one"));
  return null;
});

define("large-result", async ({ step, tell, event }) => {
  const text = await step.run("large", () => (tell("large"), "x".repeat(event.data.size)));
  await step.sleep("replayed", 10);
  return { size: text.length };
});

define("large-journal", async ({ step, tell, event }) => {
  let size = 0;
  for (let n = 0; n < event.data.steps; n++) {
    const text = await step.run(`part-${n}`, () => (tell(`part-${n}`), "é".repeat(event.data.size)));
    size += text.length;
  }
  await step.sleep("replayed", 10);
  return { size, last: await step.run("last", () => (tell("last"), "end")) };
});

define("sleep", async ({ step, did }) => {
  const before = await step.run("before", did("before"));
  await step.sleep("nap", 300);
  return [before, await step.run("after", did("after"))];
});

define("sleep-until", async ({ step, did }) => {
  const at = await step.run("at", () => new Date(Date.now() + 300).toISOString());
  await step.sleepUntil("then", new Date(at));
  return await step.run("after", did("after"));
});

define("sleep-until-past", async ({ step, did }) => {
  await step.sleepUntil("then", new Date(Date.now() - 60_000));
  return await step.run("after", did("after"));
});

define("sleeps-and-steps", async ({ step, did }) => {
  const results = [];
  for (let n = 0; n < 4; n++) {
    results.push(await step.run(`run-${n}`, did(`run-${n}`, n)));
    await step.sleep(`nap-${n}`, 20);
  }
  return results;
});

define("last-is-sleep", async ({ step, did }) => {
  await step.run("one", did("one"));
  await step.sleep("nap", 20);
});

define("outside-of-steps", async ({ step, did }) => {
  const one = await step.run("one", did("one", 1));
  await pause(20);
  const two = await step.run("two", did("two", 2));
  await pause(20);
  return one + two;
});
