// Several steps at once.

import { define } from "../definitions.mjs";

const names = (count) => Array.from({ length: count }, (_, n) => `branch-${n}`);

define("parallel", async ({ step, did }) => {
  const results = await Promise.all(["a", "b", "c"].map((id) => step.run(id, did(id))));
  return await step.run("joined", did("joined", results.join("")));
});

define("parallel-20", async ({ step, tell }) =>
  Promise.all(names(20).map((id, n) => step.run(id, () => (tell(id), n)))),
);

define("parallel-chains", async ({ step, did }) => {
  const chain = async (name) => {
    const first = await step.run(`${name}-1`, did(`${name}-1`, name));
    return await step.run(`${name}-2`, did(`${name}-2`, `${first}!`));
  };
  return await Promise.all(["x", "y", "z"].map(chain));
});

define("parallel-nested", async ({ step, did }) => {
  const inner = (name) =>
    Promise.all([1, 2].map((n) => step.run(`${name}-${n}`, did(`${name}-${n}`, n))));
  const [left, right, alone] = await Promise.all([
    inner("left"),
    inner("right").then((values) => step.run("right-sum", did("right-sum", values[0] + values[1]))),
    step.run("alone", did("alone")),
  ]);
  return { left, right, alone };
});

define("parallel-twice", async ({ step, did }) => {
  const run = (id) => step.run(id, did(id));
  const first = await Promise.all(["a", "b"].map(run));
  const middle = await run("middle");
  const second = await Promise.all(["c", "d"].map(run));
  return [...first, middle, ...second];
});

define("parallel-same-id", async ({ step, tell }) =>
  Promise.all([0, 1, 2].map((n) => step.run("same", () => (tell(`same-${n}`), n)))),
);

define("parallel-sleep-and-run", async ({ step, did }) => {
  const [, quick] = await Promise.all([
    step.sleep("nap", 200),
    step.run("quick", did("quick")).then(() => step.run("next", did("next"))),
  ]);
  return [quick, await step.run("after", did("after"))];
});

define("parallel-sleeps", async ({ step, did }) => {
  const branch = async (name, ms) => {
    await step.sleep(`nap-${name}`, ms);
    return await step.run(name, did(name));
  };
  return await Promise.all([branch("long", 200), branch("short", 50), branch("none", 1)]);
});

define("parallel-wait-and-run", async ({ step, did, app, event }) => {
  const [woken, ran] = await Promise.all([
    step.waitForEvent("wait", {
      event: `${app.id}/wake.parallel`,
      timeout: "1h",
      if: "async.data.key == event.data.key",
    }),
    step.run("ran", did("ran")),
  ]);
  return { woken: woken.data.value, ran, key: event.data.key };
});

define("parallel-mixture", async ({ step, did, app }) => {
  const waiting = async () => {
    const woken = await step.waitForEvent("wait", {
      event: `${app.id}/wake.mixture`,
      timeout: "1h",
      match: "data.key",
    });
    return await step.run("woken", did("woken", woken.data.value));
  };
  const sleeping = async () => {
    await step.run("before", did("before"));
    await step.sleep("nap", 50);
    return await step.run("slept", did("slept"));
  };
  const running = async () => {
    const values = [];
    for (let n = 0; n < 3; n++) {
      values.push(await step.run(`run-${n}`, did(`run-${n}`, n)));
    }
    return values;
  };
  const [woken, slept, ran] = await Promise.all([waiting(), sleeping(), running()]);
  await step.sleep("last-nap", 20);
  return { woken, slept, ran, end: await step.run("end", did("end")) };
});

define("race", async ({ step, group, did, app }) => {
  const first = await group.parallel(async () =>
    Promise.race([
      step.run("quick", did("quick")),
      step
        .waitForEvent("slow", { event: `${app.id}/wake.loser`, timeout: "1h" })
        .then(() => "slow"),
    ]),
  );
  return await step.run("after", did("after", `${first} won`));
});

define("parallel-settled", async ({ step, did, tell }) => {
  const results = await Promise.allSettled([
    step.run("good", did("good")),
    step.run("bad", () => {
      tell("bad");
      throw new Error("bad branch");
    }),
  ]);
  const seen = results.map((r) => (r.status === "fulfilled" ? r.value : r.reason.message));
  return await step.run("after", did("after", seen));
}, { retries: 1 });

define(
  "parallel-retried",
  async ({ step, did, shaky }) =>
    Promise.all([step.run("steady", did("steady")), step.run("shaky", shaky("shaky", 1))]),
  { retries: 2 },
);

define("dynamic-branches", async ({ step, did, tell }) => {
  const found = await step.run("list", () => (tell("list"), ["p", "q", "r"]));
  const lengths = await Promise.all(
    found.map(async (name, n) => {
      if (n % 2 === 0) {
        await step.sleep(`nap-${name}`, 10);
      }
      return await step.run(`use-${name}`, did(`use-${name}`, name.repeat(n + 1)));
    }),
  );
  return lengths;
});
