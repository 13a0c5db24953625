"""What each part of Lorry does: one part, one folder."""
