// A middleware that changes what travels: every step's result is stored reversed, as text.

import { Middleware } from "inngest";

const encode = (value) => ({ coded: [...JSON.stringify(value ?? null)].reverse().join("") });
const decode = (value) =>
  value?.coded === undefined ? value : JSON.parse([...value.coded].reverse().join(""));

export class Coded extends Middleware.BaseMiddleware {
  id = "coded";

  async wrapStepHandler({ next }) {
    return encode(await next());
  }

  async wrapStep({ next }) {
    return decode(await next());
  }
}
