// Steps and functions that fail.

import { NonRetriableError, RetryAfterError } from "inngest";

import { BoomError, define } from "../definitions.mjs";

const ALWAYS = Infinity;

define(
  "step-retried",
  async ({ step, did, shaky }) => {
    const before = await step.run("before", did("before"));
    const shaken = await step.run("shaky", shaky("shaky", 2));
    return [before, shaken, await step.run("after", did("after"))];
  },
  { retries: 3 },
);

define(
  "step-fails",
  async ({ step, did, shaky }) => {
    await step.run("before", did("before"));
    await step.run("bad", shaky("bad", ALWAYS));
    await step.run("never", did("never"));
  },
  { retries: 2 },
);

define(
  "no-retries",
  async ({ step, shaky }) => {
    await step.run("bad", shaky("bad", ALWAYS));
  },
  { retries: 0 },
);

define(
  "step-caught",
  async ({ step, did, shaky }) => {
    let caught;
    try {
      await step.run("bad", shaky("bad", ALWAYS));
    } catch (error) {
      caught = error.message;
    }
    const undone = await step.run("undo", did("undo"));
    return { caught, undone };
  },
  { retries: 1 },
);

define(
  "caught-and-failed-again",
  async ({ step, shaky }) => {
    try {
      await step.run("bad", shaky("bad", ALWAYS));
    } catch {
      await step.run("worse", shaky("worse", ALWAYS));
    }
  },
  { retries: 1 },
);

define("step-non-retriable", async ({ step, shaky }) => {
  const error = new NonRetriableError("no use");
  await step.run("bad", shaky("bad", ALWAYS, { error }));
});

define("step-non-retriable-caught", async ({ step, did, shaky }) => {
  const error = new NonRetriableError("no use");
  const caught = await step
    .run("bad", shaky("bad", ALWAYS, { error }))
    .catch((reason) => reason.message);
  return [caught, await step.run("after", did("after"))];
});

define("retry-after", async ({ step, shaky }) => {
  const error = new RetryAfterError("later", "1s");
  return await step.run("later", shaky("later", 1, { error }));
});

define(
  "function-retried",
  async ({ step, did, shaky, tell }) => {
    tell("function");
    const one = await step.run("one", did("one"));
    shaky("between", 2)();
    return [one, await step.run("two", did("two"))];
  },
  { retries: 3 },
);

define(
  "function-fails",
  async ({ step, did, shaky }) => {
    await step.run("one", did("one"));
    shaky("between", ALWAYS)();
  },
  { retries: 1 },
);

define("function-non-retriable", async ({ tell }) => {
  tell("function");
  throw new NonRetriableError("never again");
});

define("function-retry-after", async ({ shaky }) =>
  shaky("function", 1, { error: new RetryAfterError("in a second", "1s") })(),
);

define(
  "fails-after-parallel",
  async ({ step, did, shaky }) => {
    const both = await Promise.all(["a", "b"].map((id) => step.run(id, did(id))));
    const shaken = await step.run("shaky", shaky("shaky", 1));
    return [...both, shaken];
  },
  { retries: 1 },
);

define(
  "fails-after-sleep",
  async ({ step, did, shaky }) => {
    await step.run("before", did("before"));
    await step.sleep("nap", 20);
    return await step.run("shaky", shaky("shaky", 1));
  },
  { retries: 1 },
);

define(
  "each-step-retried",
  async ({ step, shaky }) => {
    const results = [];
    for (const id of ["a", "b", "c"]) {
      results.push(await step.run(id, shaky(id, 1)));
    }
    return results;
  },
  { retries: 1 },
);

define(
  "on-failure",
  async ({ step, shaky }) => {
    await step.run("bad", shaky("bad", ALWAYS));
  },
  {
    retries: 0,
    onFailure: async ({ step, did, tell, event, error }) => {
      const message = await step.run("told", did("told", error.message));
      tell("failure", { message, data: event.data.event.data, run: event.data.run_id });
      return message;
    },
  },
);

define(
  "on-failure-unused",
  async ({ step, did }) => await step.run("one", did("one")),
  { retries: 0, onFailure: async ({ tell }) => tell("failure") },
);

define(
  "error-kinds",
  async ({ step, tell }) => {
    const kinds = {
      text: () => {
        throw "just text";
      },
      named: () => {
        throw new BoomError("größe 🌍");
      },
      cause: () => {
        throw new Error("outer", { cause: new Error("inner") });
      },
    };
    const seen = {};
    for (const [id, body] of Object.entries(kinds)) {
      seen[id] = await step
        .run(id, () => (tell(id), body()))
        .catch((error) => error.message);
    }
    return seen;
  },
  { retries: 0 },
);
