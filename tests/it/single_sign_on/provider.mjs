// An OpenID Connect provider of somebody else for the tests, on loopback until it is ended.
//
//   node provider.mjs oidc-provider|oauth2-mock-server REDIRECT_URI
//
// Prints its issuer, a line of its own. Needs the packages of scripts/test.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// The test reads one line; what a provider prints later must not end it.
process.stdout.on("error", () => {});

const [name, redirectUri] = process.argv.slice(2);
const from = process.env.SKEP_TEST_PAGE_JUDGES || ".";
const load = (name) => import(pathToFileURL(createRequire(join(from, "package.json")).resolve(name)).href);

// Another site than 127.0.0.1, where the service is: cookies for one site only stay there.
const HOST = "localhost";
const account = { preferred_username: "Ann.Lee", email: "ann@example.org", email_verified: true, groups: ["dev"] };

if (name === "oidc-provider") {
  const { default: Provider } = await load("oidc-provider");
  const server = createServer();
  await new Promise((done) => server.listen(0, HOST, done));
  const issuer = `http://${HOST}:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: "skep", client_secret: "secret: % and +", redirect_uris: [redirectUri],
      grant_types: ["authorization_code"], response_types: ["code"],
    }],
    pkce: { required: () => true },
    claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...account }) }),
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ["only for tests"] },
  });
  server.on("request", provider.callback());
  console.log(issuer);
} else {
  const { OAuth2Server } = await load("oauth2-mock-server");
  const server = new OAuth2Server();
  await server.issuer.keys.generate("RS256");
  server.service.on("beforeTokenSigning", (token) => Object.assign(token.payload, account));
  await server.start(0, HOST);
  console.log(server.issuer.url);
}
