// Functions that call functions.

import { referenceFunction } from "inngest";

import { define } from "../definitions.mjs";

const message = (error) => error.message;

define("double", async ({ step, did, event }) => {
  return await step.run("doubled", did("doubled", event.data.n * 2));
});

define("napping-child", async ({ step, did, event }) => {
  await step.sleep("nap", 50);
  return await step.run("rested", did("rested", `rested ${event.data.n}`));
});

define(
  "failing-child",
  async ({ step, shaky }) => {
    await step.run("bad", shaky("bad", Infinity));
  },
  { retries: 1 },
);

define("invoke-own", async ({ step, did, own, event }) => {
  const doubled = await step.invoke("call", { function: own("double"), data: { n: event.data.n } });
  return [doubled, await step.run("after", did("after"))];
});

define("invoke-twice", async ({ step, own }) => {
  const first = await step.invoke("call", { function: own("double"), data: { n: 1 } });
  return await step.invoke("call", { function: own("double"), data: { n: first } });
});

define("invoke-other-app", async ({ step, event }) => {
  const there = referenceFunction({ appId: event.data.app, functionId: "double" });
  return await step.invoke("call", { function: there, data: { n: 21 } });
});

define("invoke-napping", async ({ step, own }) => {
  return await step.invoke("call", { function: own("napping-child"), data: { n: 1 } });
});

define("invoke-parallel", async ({ step, did, own }) => {
  const [one, two, ran] = await Promise.all([
    step.invoke("one", { function: own("double"), data: { n: 1 } }),
    step.invoke("two", { function: own("double"), data: { n: 2 } }),
    step.run("ran", did("ran")),
  ]);
  return [one, two, ran];
});

define("invoke-nested", async ({ step, own }) => {
  return await step.invoke("call", { function: own("invoke-own"), data: { n: 4 } });
});

define("invoke-failing", async ({ step, did, own }) => {
  const caught = await step
    .invoke("call", { function: own("failing-child"), data: {} })
    .catch(message);
  return [caught, await step.run("after", did("after"))];
});

define("invoke-failing-uncaught", async ({ step, own }) => {
  await step.invoke("call", { function: own("failing-child"), data: {} });
});

define("invoke-timeout", async ({ step, did, own }) => {
  const caught = await step
    .invoke("call", { function: own("cancelled"), data: {}, timeout: 200 })
    .then(() => "no error", () => "timed out");
  return [caught, await step.run("after", did("after"))];
});

define("invoke-unknown", async ({ step, did }) => {
  const nobody = referenceFunction({ functionId: "nobody" });
  const caught = await step
    .invoke("call", { function: nobody, data: {} })
    .then(() => "no error", () => "refused");
  return [caught, await step.run("after", did("after"))];
});
