// Durable endpoints of several apps, each with its own way to answer when it goes async.

import { appendFileSync } from "node:fs";
import http from "node:http";

import { Inngest, NonRetriableError, referenceFunction, step } from "inngest";
import { endpointAdapter, serve, serveEndpoint } from "inngest/node";

const { APPS, ORCHESTRATOR, TRACES } = process.env;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const failed = new Set();

/** What an endpoint gets: the request's query, and bodies that leave traces under its `key`. */
function tools(request, app) {
  const query = new URL(request.url).searchParams;
  const key = query.get("key");
  const tell = (label, value = null) => {
    appendFileSync(TRACES, JSON.stringify({ app, run: key, label, value }) + "\n");
  };
  const did = (label, value = label) => () => {
    tell(label, value);
    return value;
  };
  const failsOnce = (label) => () => {
    tell(label);
    if (!failed.has(`${key} ${label}`)) {
      failed.add(`${key} ${label}`);
      throw new Error(`${label} failed`);
    }
    return label;
  };
  return { request, query, key, app, tell, did, failsOnce };
}

const endpoints = {
  async steps({ did, query }) {
    const one = await step.run("one", did("one", Number(query.get("n")) + 1));
    const two = await step.run("two", did("two", one * 10));
    return Response.json({ one, two });
  },

  async "no-steps"({ key }) {
    return new Response(`hello ${key}`);
  },

  async posted({ request, did }) {
    // The SDK has read the body itself: what it leaves to the handler is everything else.
    const seen = await step.run("seen", did("seen", request.headers.get("x-seen")));
    return Response.json({ method: request.method, seen });
  },

  async response({ did }) {
    const text = await step.run("text", did("text", "grüße 🌍"));
    return new Response(text, { status: 201, headers: { "x-made-by": "endpoint" } });
  },

  async "many-steps"({ tell }) {
    let sum = 0;
    for (let n = 0; n < 50; n++) {
      sum += await step.run(`step-${n}`, () => (tell("step"), n));
    }
    return Response.json(sum);
  },

  async sleeps({ did }) {
    const before = await step.run("before", did("before"));
    await step.sleep("nap", "1s");
    return Response.json([before, await step.run("after", did("after"))]);
  },

  async "sleeps-first"({ did }) {
    await step.sleep("nap", "1s");
    return Response.json(await step.run("after", did("after")));
  },

  async waits({ did, key, app }) {
    const woken = await step.waitForEvent("wait", { event: `${app}/wake.${key}`, timeout: "1h" });
    return Response.json([woken.data.value, await step.run("after", did("after"))]);
  },

  async parallel({ did }) {
    const results = await Promise.all(["a", "b", "c"].map((id) => step.run(id, did(id))));
    return Response.json([...results, await step.run("joined", did("joined"))]);
  },

  async retried({ did, failsOnce }) {
    const before = await step.run("before", did("before"));
    const shaky = await step.run("shaky", failsOnce("shaky"));
    return Response.json([before, shaky]);
  },

  async caught({ did, tell }) {
    const caught = await step
      .run("bad", () => {
        tell("bad");
        throw new NonRetriableError("no use");
      })
      .catch((error) => error.message);
    return Response.json([caught, await step.run("after", did("after"))]);
  },

  async invokes({ did, app }) {
    const double = referenceFunction({ appId: app, functionId: "double" });
    const doubled = await step.invoke("call", { function: double, data: { n: 21 } });
    return Response.json([doubled, await step.run("after", did("after"))]);
  },
};

const routes = new Map();
const paths = {};
for (const { id, asyncResponse, proxied } of JSON.parse(APPS)) {
  const options = asyncResponse ? { asyncResponse } : {};
  if (proxied) {
    options.asyncRedirectUrl = `/${id}/poll`;
  }
  const client = new Inngest({
    id,
    baseUrl: ORCHESTRATOR,
    isDev: true,
    logger: quiet,
    endpointAdapter: (given) => endpointAdapter({ ...given, ...options }),
  });
  client.options.endpointAdapter.createProxyHandler = endpointAdapter.createProxyHandler;
  const double = client.createFunction({ id: "double", triggers: [] }, ({ event }) =>
    step.run("doubled", () => event.data.n * 2),
  );
  paths[id] = `/${id}`;
  routes.set(paths[id], serve({ client, functions: [double], servePath: paths[id] }));
  routes.set(`/${id}/poll`, client.endpointProxy());
  for (const [name, handler] of Object.entries(endpoints)) {
    const endpoint = client.endpoint((request) => handler(tools(request, id)));
    routes.set(`/${id}/${name}`, serveEndpoint(endpoint));
  }
}

// A process that was held up closes idle connections before it reads what has come on them.
const patient = { keepAliveTimeout: 600_000 };
const server = http.createServer(patient, (request, response) => {
  const route = routes.get(new URL(request.url, "http://127.0.0.1").pathname);
  if (route) {
    route(request, response);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(0, "127.0.0.1", () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  const urls = Object.entries(paths).map(([id, path]) => [id, base + path]);
  console.log(JSON.stringify(Object.fromEntries(urls)));
});
process.stdin.on("end", () => process.exit(0)).resume();
