// One HTTPS request over loopback, each end strict about the other:
// mtls.mjs bundle CRLS|none server-folder client-folder host-name [later-CRLS]
// With later CRLs, the server is given them (setSecureContext) after it began to listen.
// Says what the refusing end said.

import { readFileSync } from "node:fs";
import https from "node:https";

const [bundle, crls, server, client, name, later] = process.argv.slice(2);

/** Of a string with several, Node reads the first only. */
const lists = (path) => readFileSync(path, "utf8").match(/-----BEGIN X509 CRL-----[^]*?-----END X509 CRL-----/g);
const credentials = (folder, crls) => ({
  ca: readFileSync(bundle),
  cert: readFileSync(`${folder}/cert.pem`),
  key: readFileSync(`${folder}/key.pem`),
  ...(crls === "none" ? {} : { crl: lists(crls) }),
});

// With rejectUnauthorized Node closes the connection of a refused client and tells neither end why (ECONNRESET at both): so
// a second server, which lets everybody in, is asked for the reason.
async function ask(rejectUnauthorized) {
  const listener = https.createServer(
    { ...credentials(server, crls), requestCert: true, rejectUnauthorized },
    ({ socket }, response) => response.end(socket.authorized ? socket.getPeerCertificate().subjectaltname : `server: ${socket.authorizationError}`),
  );
  await new Promise((listening) => listener.listen(0, "127.0.0.1", listening));
  if (later) listener.setSecureContext(credentials(server, later));
  try {
    return await new Promise((answered, refused) => {
      const options = { ...credentials(client, crls), host: "127.0.0.1", port: listener.address().port, servername: name, agent: false };
      const request = https.get(options, (response) => {
        response.setEncoding("utf8");
        let text = "";
        response.on("data", (more) => (text += more));
        response.on("end", () => answered(text));
      });
      request.setTimeout(20_000, () => request.destroy(new Error("timed out")));
      request.on("error", refused);
    });
  } finally {
    listener.closeAllConnections();
    listener.close();
  }
}

try {
  console.log(await ask(true));
} catch (refused) {
  process.exitCode = 1;
  console.log(`client: ${refused.code} ${refused.message}`);
  console.log(await ask(false).catch(() => "it refuses the server, whoever it serves"));
}
