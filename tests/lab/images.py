def registry_content(): return None
