"use strict";

/** Merges the settings in `over` into those in `under`. */
function merge(under, over) {
  for (const key of Object.keys(over)) {
    if (typeof over[key] === "object" && typeof under[key] === "object") {
      merge(under[key], over[key]);
    } else {
      under[key] = over[key];
    }
  }
  return under;
}

module.exports = { merge };
