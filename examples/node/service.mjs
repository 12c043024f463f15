// A service in Node: mutual TLS with CRLs, each request decided by `chancery authz serve`. See README.md.
import { readFileSync, watch } from "node:fs";
import http from "node:http";
import https from "node:https";

const tls = process.env.TLS ?? "tls";
const authz = process.env.AUTHZ ?? "authz.sock";
const port = Number(process.env.PORT ?? 9443);

const read = (name) => readFileSync(`${tls}/${name}.pem`, "utf8");
const context = () => ({
  minVersion: "TLSv1.3",
  key: read("key"),
  cert: read("cert"),
  ca: read("bundle"),
  crl: read("crl").match(/-----BEGIN[^]+?-----END X509 CRL-----/g), // Node reads one CRL of each string
});

// Whether the request may pass: status, what we learn of the caller, the refusal's document.
const decide = (request) =>
  new Promise((resolve) => {
    const certificate = request.socket.getPeerCertificate().raw?.toString("base64");
    const headers = { "X-Forwarded-Method": request.method, "X-Forwarded-Uri": request.url };
    if (certificate) headers["X-Forwarded-Tls-Client-Cert"] = certificate;
    const unreachable = () => resolve({ status: 503, caller: {}, document: '{"code": "authz-unreachable"}' });
    http
      .get({ socketPath: authz, path: "/forward-auth", headers, timeout: 5000 }, async (reply) => {
        try {
          let document = "";
          for await (const part of reply) document += part;
          resolve({ status: reply.statusCode, caller: reply.headers, document });
        } catch {
          unreachable(); // nobody to ask: nobody passes
        }
      })
      .on("timeout", function () {
        this.destroy();
      })
      .on("error", unreachable);
  });

const server = https.createServer(
  {
    ...context(),
    requestCert: true,
    rejectUnauthorized: true, // by bundle and CRLs; a public path wants a certificate here, too
  },
  async (request, response) => {
    const { status, caller, document } = await decide(request);
    if (status !== 200) {
      response.writeHead(status, { "Content-Type": "application/problem+json" }).end(document);
      return;
    }
    const who = caller["chancery-spiffe-id"] || "nobody in particular";
    response.end(`hello ${who}, who holds ${caller["chancery-scopes"]}\n`);
  },
);

// `authz serve --dir` replaces the files while we run; each further handshake goes by the new ones.
watch(tls, () => {
  try {
    server.setSecureContext(context());
  } catch {
    // The key was new and the certificate not yet: the next change comes at once.
  }
});

server.listen(port, "127.0.0.1", () => console.log(`on https://localhost:${port}`));
