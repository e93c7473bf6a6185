/* Keeps opened tickets readable without a connection. The pages put themselves into the cache; here they are
   taken out of it when the network does not answer. Nothing else is ever answered from it. */
const CACHE = "kiti-tickets";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== self.location.origin) return;
  if (!/^\/bookings\/[^/]+\/ticket$/.test(pathname) && !pathname.startsWith("/static/")) return;
  event.respondWith(
    fetch(event.request).catch(async (error) => {
      const cache = await caches.open(CACHE);
      const kept = await cache.match(event.request, { ignoreVary: true });
      if (kept) return kept;
      throw error;
    }),
  );
});
