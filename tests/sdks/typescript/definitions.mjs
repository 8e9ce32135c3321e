// The functions that every app serves, each under its own configuration.

import { appendFileSync } from "node:fs";

const functions = [];

/**
 * Adds a function to every app. Its trigger is the event `<app>/<name>`, unless `options` has others.
 *
 * @param name     the function's id
 * @param handler  gets Inngest's context and what `tools` adds to it
 * @param options  Inngest's options, or what makes them from the app's id
 */
export function define(name, handler, options = {}) {
  functions.push({ name, handler, options });
}

/** What has happened outside of the journal: one JSON line an effect, for the test to count. */
function trace(app, run, label, value = null) {
  appendFileSync(process.env.TRACES, JSON.stringify({ app, run, label, value }) + "\n");
}

/** A failure with a name of its own. */
export class BoomError extends Error {
  name = "BoomError";
}

const failures = new Map();

/** How often `label` has failed in this run, this time included. */
function failed(runId, label) {
  const key = `${runId} ${label}`;
  failures.set(key, (failures.get(key) ?? 0) + 1);
  return failures.get(key);
}

function tools(context, app, made) {
  const tell = (label, value) => trace(app.id, context.runId, label, value);
  return {
    ...context,
    app,
    tell,
    /** A step's body that leaves a trace and returns `value`. */
    did: (label, value = label) => () => {
      tell(label, value);
      return value;
    },
    /** A body that leaves a trace each time, and fails `times` times before it returns. */
    shaky: (label, times, { value = label, error = new BoomError(`${label} failed`) } = {}) =>
      () => {
        tell(label);
        if (failed(context.runId, label) <= times) {
          throw error;
        }
        return value;
      },
    /** Another function of the same app. */
    own: (name) => made.get(name),
  };
}

/** The functions for `client`. */
export function functionsOf(client) {
  const made = new Map();
  for (const { name, handler, options } of functions) {
    const own = typeof options === "function" ? options(client.id) : options;
    const { onFailure, ...rest } = own;
    const settings = { id: name, triggers: [{ event: `${client.id}/${name}` }], ...rest };
    if (onFailure) {
      settings.onFailure = (context) => onFailure(tools(context, client, made));
    }
    const run = (context) => handler(tools(context, client, made));
    made.set(name, client.createFunction(settings, run));
  }
  return [...made.values()];
}
