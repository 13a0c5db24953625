// What the scripts for Node share: where the servers are, and a line of JSON for each check.
"use strict";

const { LORRY_PLAIN, LORRY_TOOLS, LORRY_KEY } = process.env;

/** Runs the checks that the arguments name, or all; prints what became of each. */
async function main(checks) {
  const named = process.argv.slice(2);
  for (const [check, run] of Object.entries(checks)) {
    if (named.length && !named.includes(check)) continue;
    let detail = "";
    try {
      await run();
    } catch (error) {
      detail = String(error.stack);
    }
    console.log(JSON.stringify({ check, ok: !detail, detail }));
  }
}

module.exports = { PLAIN: LORRY_PLAIN, TOOLS: LORRY_TOOLS, KEY: LORRY_KEY, MODEL: "smol", main };
