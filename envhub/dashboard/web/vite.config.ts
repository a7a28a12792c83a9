import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: '../static',
    emptyOutDir: true,
    chunkSizeWarningLimit: 600, // kB: in one piece the page is there sooner than by fetching it bit by bit
    assetsInlineLimit: 0, // the page's Content-Security-Policy allows no data: URLs
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8000' } }, // `npm run dev` beside a running server
})
