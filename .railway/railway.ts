// The project on Railway: two services from one image, and their Postgres. Applied by hand with `railway config plan` and
// `railway config apply`; a push does not read it. What is missing here is deleted there, so everything is here.
import { defineRailway, github, group, postgres, project, service } from "railway/iac";

export default defineRailway(() => {
  const db = postgres("Postgres");
  const source = github("OWNER/foundry", { branch: "main" });
  const build = {
    builder: "DOCKERFILE" as const,
    dockerfilePath: "Dockerfile",
    watchPatterns: ["/api/**", "/cmd/**", "/db/**", "/examples/**", "/internal/**", "/go.mod", "/go.sum", "/Dockerfile"],
  };

  // Several replicas of each are sound: work is claimed in the database, and streams are read from it.
  const foundry = service("foundry", {
    source,
    build,
    start: "/usr/local/bin/foundry serve",
    preDeploy: "/usr/local/bin/foundry migrate",
    healthcheck: "/readyz",
    healthcheckTimeout: 120,
    deploy: { sleepApplication: false, restartPolicyType: "ON_FAILURE", overlapSeconds: 15, drainingSeconds: 30 },
    env: { PORT: "8080", DATABASE_URL: db.env.DATABASE_URL, DATABASE_URL_DIRECT: db.env.DATABASE_URL },
  });

  // It listens to the database as long as it lives and so is never silent: sleeping would be of no use. Without a draining
  // time Railway kills at once.
  const worker = service("worker", {
    source,
    build,
    start: "/usr/bin/tini -- /usr/local/bin/worker", // tini reaps the shims, which belong to nobody
    healthcheck: "/healthz",
    healthcheckTimeout: 60,
    deploy: {
      sleepApplication: false,
      restartPolicyType: "ON_FAILURE",
      restartPolicyMaxRetries: 10,
      overlapSeconds: 0,
      drainingSeconds: 120,
    },
    env: { PORT: "8081", DATABASE_URL: db.env.DATABASE_URL, DATABASE_URL_DIRECT: db.env.DATABASE_URL },
  });

  return project("foundry", { resources: [group("Foundry", [foundry, worker, db])] });
});
