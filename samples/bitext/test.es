pinto esta manzana detrás de la iglesia .
dibujo nuestros cuadros pequeños para los parques caros .
estas reinas encuentran una camisa .
la mujer ve nuestra llave .
tengo el coche en la estación amarilla todos los días .
un coche negro de nuestro vecino es tranquilo cerca de dos escuelas negras .
nuestra reina rota pinta un libro a esta escuela otra vez .
pinto este periódico a nuestra biblioteca pequeña .
mi granjero blanco limpia nuestra ventana a mi parque .
nuestro periódico de un marinero es blanco .
un granjero olvida estos puentes nuevos en nuestro mercado tranquilo todos los días .
llevo la manzana limpia a mi escuela por la noche .
la hermana no olvida nuestra manzana .
un mapa rojo del marinero es tranquilo cerca del parque caro .
estas mujeres quieren nuestra ventana .
esta niña necesita el cuadro limpio de la iglesia siempre .
mi estudiante quiere dos mesas de esta iglesia .
nuestra mujer vende estas bicicletas caras ahora .
una mujer rota no ve un reloj por la noche .
un médico quiere la casa cerca de nuestras iglesias por la noche .
una canción rota de dos niños es rota .
una hermana alta no compra mi canción negra .
nuestras puertas de esta hermana alta son tranquilas para nuestra estación .
hay estos puentes en una iglesia .
dibujo el árbol de un pueblo por la noche .
esta mujer roja vende nuestra camisa alta del parque .
hay la llave .
pinto dos relojes detrás de mi biblioteca pequeña .
el vecino ve mi jardín .
nuestro marinero compra mi puente detrás de mi biblioteca .
necesito la lámpara vieja detrás de la estación alta otra vez .
una reina cara no vende dos bicicletas en nuestra estación limpia .
mi niño tranquilo compra nuestras sillas rojas .
necesito mi barco pequeño detrás de mi pueblo amarillo .
nuestros amigos encuentran esta flor .
dos médicos olvidan unos libros detrás de mi cocina nueva .
estas hermanas amarillas quieren nuestro jardín cerca de mis iglesias .
mis periódicos de unas hermanas son altos de nuestra estación roja siempre .
estas bicicletas limpias de mi marinero viejo son nuevas los lunes .
nuestro hermano negro vende un coche .
vendo una casa cara detrás del río hoy .
el hombre pequeño no ve mis árboles a nuestra estación .
hay la silla los lunes .
una canción de mis reinas es nueva .
hay mis relojes para mi escuela nueva otra vez .
mi vecino lleva nuestro cuadro limpio en este parque pequeño .
la reina vieja no quiere mi puente negro .
necesito nuestros árboles a nuestros pueblos .
este vecino amarillo olvida nuestro cuadro detrás de las bibliotecas .
esta silla de estos niños es vieja .
un vecino negro lleva nuestra casa siempre .
un estudiante lleva esta puerta a dos cocinas amarillas .
dos médicos llevan el mapa los lunes .
los estudiantes amarillos encuentran mi casa pequeña .
los hermanos pintan la ventana mañana .
el granjero vende este periódico tranquilo de las bibliotecas .
el niño quiere este puente por la noche .
mi reina quiere las canciones tranquilas de las escuelas negras siempre .
unas camisas de una niña son limpias .
los granjeros blancos ven mis jardines en la cocina .
