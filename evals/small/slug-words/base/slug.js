"use strict";

/** Returns a text as a part of an address. */
function slug(text) {
  return text.toLowerCase().replace(/ /g, "-");
}

module.exports = { slug };
