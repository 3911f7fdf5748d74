"""placeholder until knowledge lands"""
