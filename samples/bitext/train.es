la carta de los hombres es vieja para la cocina mañana .
nuestra niña no vende los puentes para nuestros parques altos ahora .
el hombre quiere mi flor .
un estudiante nuevo quiere mi camisa blanca para unos ríos .
esta reina pequeña dibuja mi árbol blanco .
nuestro amigo dibuja mi mapa para la oficina siempre .
mi marinero roto no pinta un cuadro los lunes .
un médico negro no quiere los puentes hoy .
este hombre pinta nuestro periódico .
hay mis manzanas altas ahora .
la niña negra lleva nuestra llave vieja siempre .
mi niño no quiere esta canción blanca .
hay unos libros hoy .
este niño tiene una llave ahora .
hay una casa otra vez .
esta reina no quiere estas cajas .
unos vecinos rotos quieren la caja .
hay dos manzanas por la noche .
hay mi manzana .
mis árboles de nuestros marineros son altos todos los días .
el granjero ve un barco detrás de unas bibliotecas los lunes .
nuestro vecino pinta un periódico otra vez .
una maestra limpia no pinta la flor amarilla .
estas casas blancas de la mujer son blancas .
mis amigos no tienen un periódico .
mi casa blanca de la hermana es cara a un parque .
un vecino quiere unas canciones los lunes .
esta hermana pequeña tiene mis flores detrás de nuestro mercado ahora .
unas reinas negras compran mi cuadro amarillo .
mi maestra compra dos libros nuevos cerca de mis parques amarillos .
unos estudiantes no encuentran el cuadro nuevo .
esta maestra roja vende la carta amarilla otra vez .
dos barcos de nuestro hermano viejo son viejos a mi pueblo .
mi amigo blanco pinta nuestra manzana cerca de mi escuela nueva .
esta mujer nueva encuentra las mesas blancas .
este niño vende los árboles nuevos cerca de unas bibliotecas .
un vecino limpio necesita nuestra carta .
el árbol de un estudiante rojo es negro .
hay nuestro libro mañana .
nuestra ventana tranquila de la reina es vieja otra vez .
hay los mapas todos los días .
nuestro amigo quiere mis cartas altas cerca de nuestro mercado roto .
el mapa de los vecinos es roto .
nuestros estudiantes pequeños venden estos periódicos otra vez .
dos vecinos limpian mi coche pequeño detrás de mis ríos viejos .
mi hermano olvida mi llave hoy .
este médico dibuja mi llave .
tengo mi carta .
encuentro una flor cara detrás de mis mercados los lunes .
nuestros médicos compran mi puente .
pinto estas mesas detrás de unas oficinas .
mi médico rojo limpia este árbol amarillo .
mi hermano vende el mapa caro .
mi ventana de mi mujer es vieja todos los días .
las bicicletas de unas reinas rojas son altas .
el estudiante nuevo dibuja un árbol viejo siempre .
un marinero lleva los puentes hoy .
vendo el barco alto .
este hermano lleva dos mapas para un mercado viejo siempre .
una mesa de nuestra niña cara es roja de dos escuelas caras .
una ventana negra de mi mujer alta es tranquila detrás de una iglesia blanca por la noche .
mis casas nuevas del hermano roto son viejas para dos ríos los lunes .
hay mi carta blanca ahora .
esta hermana limpia olvida estas camisas tranquilas .
los puentes de mi reina son caros otra vez .
un amigo pinta mi camisa limpia cerca de un pueblo .
llevo el barco en mis estaciones .
un hombre pinta esta puerta limpia detrás de mi cocina vieja siempre .
unos amigos necesitan dos puertas en mi cocina siempre .
nuestros marineros blancos venden mi mesa .
este hombre pequeño ve una carta a la cocina .
el médico quiere mi ventana cara mañana .
este hermano dibuja esta carta .
una llave cara de mis niñas es cara en mi río hoy .
el hermano tiene un periódico nuevo cerca de mi parque .
mi niña limpia vende la manzana .
mi hombre no pinta unas canciones de los ríos tranquilos .
la reina vende nuestra manzana .
mi hermano dibuja una bicicleta limpia .
hay una bicicleta por la noche .
nuestra mujer limpia los coches a nuestra escuela .
dos hombres pintan mis coches negros .
esta reina limpia vende unas bicicletas rotas detrás de esta cocina vieja todos los días .
una manzana de nuestras reinas pequeñas es rota .
mi marinero compra esta manzana en nuestro pueblo siempre .
este hombre no encuentra un puente alto .
los granjeros rojos ven el mapa .
encuentro mis cajas rojas todos los días .
este marinero lleva los libros .
dibujo mi periódico rojo de unos pueblos blancos ahora .
nuestro granjero pinta una caja a dos iglesias .
mi estudiante blanco no limpia las cartas tranquilas .
dos mujeres no encuentran este periódico viejo de unos mercados todos los días .
estas manzanas de nuestro marinero son amarillas .
unos mapas limpios de unas maestras blancas son blancos todos los días .
dos estudiantes olvidan la carta mañana .
unas casas rojas de la reina son altas .
este médico caro pinta estas llaves detrás de nuestra oficina hoy .
este niño limpia unos árboles .
estos médicos encuentran este libro .
este periódico de unos marineros es viejo mañana .
hay esta puerta cara .
esta niña nueva olvida nuestra flor alta para dos oficinas .
quiero nuestra bicicleta para nuestro mercado pequeño .
dos amigos olvidan un coche ahora .
unas puertas de unos hermanos son nuevas .
un amigo vende mi libro siempre .
mis estudiantes viejos llevan nuestro barco .
nuestra reina no dibuja mi puerta a unas estaciones .
mi vecino caro dibuja esta mesa para el parque viejo ahora .
nuestro vecino roto tiene nuestra llave tranquila todos los días .
limpio esta caja para la escuela .
un niño caro no olvida un periódico .
una reina pinta un puente alto .
limpio dos flores rotas cerca de dos estaciones caras .
este amigo nuevo lleva mi canción detrás de mis mercados limpios .
pinto el árbol en nuestro mercado negro .
hay unos coches mañana .
un mapa de dos niños es alto .
mi vecino encuentra mi coche negro .
nuestro estudiante ve estas bicicletas .
la niña no pinta la camisa .
esta maestra alta ve nuestra canción por la noche .
estos amigos rotos limpian este periódico cerca de este parque tranquilo mañana .
nuestro hermano ve la puerta rota .
una caja del hombre alto es alta .
el hermano no compra una llave siempre .
nuestro hermano pinta mi carta en nuestra estación .
un hombre compra la puerta cerca de la estación alta mañana .
estos libros de dos estudiantes rojos son pequeños .
nuestros granjeros no pintan el cuadro en la oficina nueva .
la caja limpia de un vecino blanco es pequeña los lunes .
nuestro amigo nuevo lleva estas cajas todos los días .
hay mi puente caro .
estos amigos llevan esta carta .
nuestra reina necesita nuestra llave amarilla .
las cajas de este médico son rojas .
compro una ventana amarilla .
un médico blanco tiene estos mapas de la cocina .
un niño rojo compra nuestro periódico rojo de una oficina nueva .
hay este coche cerca de la escuela pequeña .
llevo nuestra ventana .
el granjero compra una manzana cerca de una cocina nueva .
esta carta de mi granjero negro es pequeña .
el vecino no dibuja la manzana cara cerca de mi escuela hoy .
estas cajas de los vecinos son caras .
mi puente pequeño de dos médicos tranquilos es roto todos los días .
estas niñas encuentran estas mesas para las bibliotecas .
vendo esta puerta .
mi puerta negra de estos estudiantes altos es roja .
nuestros marineros pequeños tienen un barco negro cerca de una cocina blanca .
una maestra alta no necesita nuestra casa roja a nuestra escuela otra vez .
un vecino compra nuestras mesas cerca de nuestra oficina .
dos llaves pequeñas de mi marinero son rojas en mi iglesia .
unos niños tienen estos mapas ahora .
mi hombre encuentra esta puerta mañana .
llevo el cuadro caro .
mis árboles de los marineros son caros .
necesito esta carta vieja .
hay nuestra manzana amarilla a mi cocina mañana .
nuestro médico tiene mis barcos .
nuestro amigo amarillo ve nuestra carta blanca .
un granjero limpio ve este periódico limpio mañana .
nuestros hermanos viejos tienen esta flor .
mi hermana dibuja mi canción detrás de nuestras bibliotecas limpias .
nuestra hermana nueva quiere estas casas rojas en mi río .
una mujer lleva mi coche pequeño cerca de nuestro mercado tranquilo .
un granjero lleva nuestros barcos .
nuestro amigo necesita mi bicicleta pequeña para mi oficina otra vez .
unos amigos limpian el puente de un río .
estos vecinos ven nuestra flor .
nuestra niña dibuja el libro detrás de nuestra biblioteca vieja .
este hombre lleva una ventana pequeña .
este amigo tiene un barco ahora .
el hombre alto limpia mi carta roja a mi mercado .
nuestras reinas dibujan nuestra flor .
la mujer blanca compra mis periódicos .
este hombre viejo no ve la mesa blanca .
el hermano caro compra mi carta vieja en unas oficinas rotas siempre .
dos manzanas de mis amigos son rotas cerca de estos pueblos rojos .
nuestra hermana encuentra la ventana .
mis médicos altos limpian unos coches detrás de nuestro pueblo .
mi estudiante limpio vende nuestras canciones rotas .
encuentro nuestra llave limpia mañana .
dibujo mi cuadro tranquilo los lunes .
unos marineros altos olvidan nuestra ventana .
este médico tranquilo vende mi llave .
unos cuadros altos de este estudiante son rojos .
una puerta nueva de un estudiante es roja .
el hermano limpia nuestra mesa .
este árbol de dos reinas rojas es limpio ahora .
este médico dibuja dos manzanas de mis estaciones .
mi granjero no olvida mi casa .
hay estas flores negras .
esta maestra blanca tiene unos mapas tranquilos .
un vecino olvida un mapa de nuestros parques .
mi vecino no dibuja los mapas viejos detrás de este parque por la noche .
llevo nuestra mesa roja .
nuestro estudiante alto lleva mi barco amarillo detrás de nuestro mercado .
los estudiantes caros no encuentran este mapa alto .
este marinero dibuja esta mesa pequeña detrás de un mercado blanco .
la manzana de un vecino es limpia ahora .
el hermano pinta una canción pequeña de mi biblioteca blanca .
mi niño negro no tiene mi mesa rota .
nuestras hermanas necesitan mi coche .
este granjero no ve mi llave detrás de una escuela tranquila .
nuestra mujer compra nuestro puente cerca de nuestras cocinas siempre .
mi amigo roto dibuja dos árboles amarillos .
nuestra maestra no limpia nuestra puerta alta cerca de nuestra cocina por la noche .
las hermanas limpias necesitan esta bicicleta negra .
dos puertas de estos estudiantes son tranquilas .
esta mujer compra estas cajas amarillas de estas cocinas tranquilas .
el vecino nuevo necesita estas flores .
mi cuadro pequeño de nuestro vecino es rojo todos los días .
esta ventana vieja de nuestra maestra es vieja detrás de nuestro río .
una hermana rota quiere la caja los lunes .
nuestra hermana encuentra el coche ahora .
esta hermana no limpia dos coches pequeños .
mi estudiante tranquilo dibuja mi camisa .
dos marineros quieren este árbol siempre .
la hermana no encuentra nuestra ventana limpia para la estación todos los días .
esta mesa roja de mis hermanos limpios es nueva .
nuestras maestras blancas venden este árbol detrás de esta escuela por la noche .
este hombre caro olvida nuestra ventana rota .
nuestras camisas de nuestro hermano son pequeñas en nuestros pueblos por la noche .
nuestro marinero limpio limpia nuestro puente tranquilo siempre .
hay nuestra bicicleta amarilla siempre .
veo unas llaves en una oficina amarilla .
hay estas cajas .
pinto mi puente .
esta casa de dos granjeros altos es cara .
vendo una manzana roja para unos ríos caros .
un árbol de esta reina es negro por la noche .
veo esta mesa .
este marinero roto necesita estos coches hoy .
las llaves del hermano son altas .
unos puentes de una niña son viejos .
la hermana olvida unas canciones cerca de nuestro pueblo por la noche .
unas casas de las maestras blancas son rojas en esta biblioteca pequeña .
dibujo dos camisas .
mi hermano encuentra mi manzana .
nuestro amigo no vende la casa limpia .
mi granjero ve el árbol .
quiero mi puente blanco de los ríos .
mi cuadro de mi hombre es negro de nuestra cocina pequeña todos los días .
hay esta carta cara cerca de la estación alta .
mi amigo roto tiene mi bicicleta de estos pueblos .
este hermano viejo necesita los cuadros de estos ríos rotos otra vez .
esta reina compra mi carta roja los lunes .
una hermana limpia no limpia unas cajas .
el niño no compra mi periódico .
mi vecino ve mi ventana negra .
las mujeres dibujan mis camisas cerca de la oficina blanca .
vendo dos casas rojas .
una niña vieja necesita un libro detrás de estas estaciones los lunes .
este mapa caro de nuestro marinero viejo es negro de mi iglesia por la noche .
vendo esta carta blanca .
estos vecinos viejos quieren nuestro árbol .
el granjero blanco vende una canción tranquila .
este estudiante lleva una mesa .
mi niña nueva lleva mi bicicleta roja todos los días .
estos hombres llevan este mapa viejo a la estación negra .
mi médico negro no vende la manzana pequeña cerca de nuestra biblioteca rota otra vez .
nuestros amigos compran una casa .
vendo nuestros árboles rojos cerca de una escuela rota .
estas reinas no quieren la bicicleta cerca de la iglesia amarilla .
estos hombres tranquilos no limpian esta mesa blanca a esta iglesia blanca ahora .
las mujeres viejas compran las flores cerca de unas bibliotecas .
la puerta roja de nuestra reina tranquila es vieja cerca de los mercados .
nuestro niño viejo compra el periódico detrás de una escuela .
nuestro vecino encuentra mis barcos viejos de este pueblo ahora .
mi niña amarilla dibuja nuestra ventana a mis ríos tranquilos .
mi granjero tranquilo necesita mi carta .
nuestro marinero limpio limpia la puerta ahora .
mi médico vende mi carta a mi río por la noche .
dibujo el mapa limpio en mi iglesia todos los días .
quiero mis manzanas en mi pueblo .
mi niña vende estos cuadros cerca de mi oficina pequeña .
hay mi mesa cerca de mis cocinas .
dos mujeres olvidan una manzana .
compro este cuadro alto .
hay mis canciones rojas a mis estaciones amarillas .
mi hermana nueva no olvida nuestros árboles siempre .
hay las flores .
este estudiante no dibuja nuestras mesas de un pueblo .
este granjero pinta esta manzana detrás de una iglesia .
estos hermanos rotos limpian nuestras casas .
mis mujeres quieren el barco pequeño .
las bicicletas tranquilas de nuestra hermana son nuevas .
mi marinero tiene un mapa .
este marinero roto olvida una llave a un mercado alto los lunes .
compro nuestro puente a unos pueblos viejos .
esta manzana tranquila de nuestro hermano es tranquila de esta biblioteca .
la reina tranquila encuentra esta puerta rota siempre .
nuestra mujer tiene las bicicletas detrás de nuestra biblioteca amarilla .
nuestro hombre vende las mesas detrás de dos mercados blancos .
esta carta del amigo es limpia para mi oficina limpia los lunes .
nuestros estudiantes viejos pintan esta casa tranquila hoy .
este niño rojo no olvida esta flor .
una carta de mi niña es pequeña cerca de mi iglesia .
quiero el coche para dos mercados viejos .
un hermano tiene un coche viejo .
la reina ve nuestros árboles otra vez .
hay un libro pequeño en unos pueblos .
la reina no dibuja una canción .
nuestro vecino roto no vende una ventana ahora .
el médico no dibuja los libros .
hay dos flores otra vez .
veo una puerta amarilla de mi biblioteca hoy .
nuestras mujeres no tienen la flor .
unos estudiantes amarillos llevan una bicicleta alta .
estas mujeres no compran los puentes nuevos detrás de nuestras oficinas .
dos granjeros ven mis manzanas .
la ventana de una niña es cara siempre .
estas reinas llevan las manzanas negras .
hay esta camisa de nuestras cocinas .
este médico quiere la puerta a nuestro parque roto hoy .
nuestros hermanos no dibujan una ventana roja .
nuestras bicicletas de este estudiante son viejas en dos cocinas altas .
dos niños blancos necesitan nuestras ventanas pequeñas de dos iglesias .
esta puerta cara de mi maestra es blanca .
hay los puentes .
el niño alto no encuentra este mapa negro .
nuestro hombre blanco ve unos cuadros de este pueblo por la noche .
pinto unos puentes caros ahora .
hay mi puente rojo a un río roto .
el vecino compra una mesa cerca de mis ríos .
un vecino tiene la manzana cara todos los días .
mis ventanas rotas de la maestra son altas cerca de los ríos rotos .
pinto el periódico ahora .
unas hermanas pequeñas no llevan una llave para mi parque rojo todos los días .
el médico vende este libro para una iglesia otra vez .
un amigo vende mi carta cara por la noche .
nuestra maestra pinta nuestra canción detrás de estos parques todos los días .
la reina cara tiene mis árboles de este pueblo .
el niño compra unas mesas .
mi niño alto no dibuja nuestra llave en nuestro mercado tranquilo .
esta mujer dibuja nuestras cartas detrás de mi escuela .
esta bicicleta de los hermanos es vieja .
mis llaves de una maestra son nuevas de nuestras estaciones otra vez .
quiero este barco roto .
estos granjeros pintan nuestro puente detrás del pueblo .
nuestro hombre necesita el libro ahora .
unos estudiantes blancos ven unas ventanas pequeñas detrás de mi estación mañana .
los hombres encuentran estas camisas de la biblioteca .
este médico limpia la puerta a una iglesia .
llevo nuestras casas altas .
el estudiante tranquilo tiene estos periódicos tranquilos .
este granjero rojo pinta dos camisas .
el amigo encuentra el mapa viejo a la iglesia blanca .
olvido nuestra canción blanca en mi estación alta .
mi estudiante lleva esta bicicleta para unos mercados amarillos otra vez .
dos niños no dibujan una ventana blanca .
nuestra maestra blanca ve nuestra flor cerca de esta estación vieja .
dos estudiantes tienen nuestra mesa .
mis médicos amarillos no venden el puente roto .
estos estudiantes necesitan la carta siempre .
unas hermanas necesitan este cuadro limpio para las cocinas .
hay el puente .
mi hermano encuentra dos flores rojas cerca de nuestro pueblo otra vez .
quiero esta casa blanca detrás de una escuela limpia hoy .
mi mapa de nuestro granjero es pequeño por la noche .
el periódico de un granjero pequeño es amarillo a nuestro parque limpio .
un niño no ve la llave tranquila por la noche .
el estudiante olvida estos mapas .
mi hombre tiene una mesa alta .
nuestro médico amarillo necesita nuestra casa cerca de las iglesias .
nuestros médicos no encuentran estos libros cerca de nuestra cocina todos los días .
mi puerta de mi amigo es roja mañana .
un barco negro de esta mujer es tranquilo cerca de estas estaciones todos los días .
nuestros médicos amarillos dibujan mis barcos .
mi casa de unas maestras tranquilas es cara .
mi estudiante no quiere nuestro árbol tranquilo .
nuestro barco amarillo del estudiante es negro .
hay este puente de este pueblo rojo .
las mujeres amarillas llevan mi camisa nueva del mercado caro hoy .
unas canciones de un niño tranquilo son negras cerca de estas estaciones tranquilas .
una ventana de mis estudiantes es cara .
hay el mapa negro en el pueblo ahora .
este médico caro necesita este barco todos los días .
dos hermanas pintan nuestros periódicos para la oficina .
una mujer no necesita nuestra flor negra hoy .
hay el periódico a mi oficina .
una caja cara de dos médicos es roja .
nuestra reina limpia no quiere esta canción .
mi hombre ve el barco negro detrás de mi oficina .
la hermana tranquila encuentra dos ventanas pequeñas de mi biblioteca .
hay mi camisa .
estos granjeros amarillos no ven este coche cerca de las bibliotecas mañana .
el estudiante ve una caja .
una hermana vieja dibuja este puente rojo de mi parque .
este vecino lleva mi puente siempre .
pinto mis camisas .
llevo las llaves .
los hermanos pintan estos árboles de estas escuelas blancas .
este granjero no lleva nuestra casa ahora .
unos estudiantes necesitan el barco blanco de la cocina .
esta niña cara no vende estos cuadros .
la mesa de un marinero blanco es nueva .
el estudiante tranquilo no quiere esta puerta .
nuestro barco de esta hermana es pequeño .
las maestras tienen esta mesa .
limpio una carta en unos ríos .
la reina alta necesita mi carta en un pueblo blanco .
estas reinas rotas compran unos coches pequeños los lunes .
pinto la mesa roja en nuestra cocina ahora .
mi médico viejo limpia una puerta por la noche .
una hermana cara quiere el barco blanco cerca de mi parque .
mi hombre limpio vende una canción rota .
el estudiante no ve la ventana cerca de este mercado pequeño .
la maestra amarilla encuentra un puente en las estaciones hoy .
este hombre quiere nuestra flor .
necesito mi casa detrás de una oficina .
pinto una caja nueva a nuestro río .
tengo mi mapa detrás de mi cocina .
un estudiante lleva este barco hoy .
nuestros hombres quieren un mapa roto a la iglesia nueva .
mi marinero no ve un barco alto cerca de una escuela negra .
estas reinas limpian mis cuadros .
las reinas ven estas camisas rojas hoy .
el amigo viejo no necesita nuestros árboles de la oficina ahora .
la hermana lleva unas manzanas ahora .
esta mujer tranquila no limpia el libro .
hay mi flor blanca .
este niño olvida los libros blancos en mi biblioteca tranquila por la noche .
el vecino amarillo olvida estas manzanas .
estos estudiantes encuentran esta flor alta los lunes .
la manzana alta de mis mujeres nuevas es vieja al río viejo .
nuestro vecino no quiere las mesas todos los días .
estas mujeres amarillas no olvidan dos canciones detrás de nuestra cocina .
hay nuestra camisa pequeña .
hay la puerta a este pueblo hoy .
dos niños no ven unas mesas altas en los ríos mañana .
estos amigos ven mi casa .
hay este puente alto .
mi hermano pinta este puente amarillo a una escuela rota .
quiero la canción .
mis hermanas olvidan una manzana cerca de una biblioteca ahora .
quiero este cuadro blanco .
hay estos libros negros .
esta mesa de mis granjeros es cara .
unos hermanos limpian dos puentes cerca de unas oficinas limpias .
el niño no lleva la bicicleta los lunes .
una caja de estas hermanas blancas es alta detrás de dos bibliotecas hoy .
los amigos negros venden mis mapas viejos .
hay esta puerta .
estas cartas de mi mujer cara son blancas .
nuestra reina olvida mi mesa hoy .
nuestro médico tiene mis llaves a un pueblo siempre .
un médico no limpia el mapa tranquilo de unos parques blancos siempre .
hay la mesa alta detrás de dos ríos caros .
mis mujeres rotas olvidan un barco viejo a mi estación .
compro un cuadro caro todos los días .
necesito un cuadro rojo otra vez .
mi árbol de las reinas es amarillo los lunes .
la niña vieja quiere nuestra ventana amarilla detrás de mi estación vieja hoy .
mis granjeros rojos no necesitan mi puerta tranquila a esta iglesia cara otra vez .
nuestro granjero amarillo necesita este puente amarillo siempre .
esta mujer quiere mi puente de nuestro pueblo .
unos estudiantes tranquilos tienen mi casa mañana .
pinto el barco .
nuestro estudiante dibuja nuestra manzana cara cerca de nuestro río .
unas mujeres no venden mi cuadro detrás de nuestro pueblo todos los días .
necesito nuestra puerta tranquila .
estas ventanas rojas de mi médico son rotas .
este hermano limpio ve nuestros barcos para estas escuelas mañana .
mi reina necesita nuestro coche cerca de dos oficinas .
hay la camisa en dos mercados .
nuestra reina no encuentra este árbol mañana .
un estudiante viejo no vende una camisa .
unas niñas no ven los libros .
la reina compra dos mapas a esta escuela cara por la noche .
mi marinero ve esta canción .
nuestro barco de mi mujer blanca es caro .
hay nuestra puerta .
nuestro granjero rojo encuentra este puente detrás de nuestra oficina nueva .
la reina necesita un árbol .
los granjeros tranquilos tienen una carta alta detrás de unas estaciones .
hay el coche amarillo .
hay estas flores detrás de la escuela roja .
esta hermana cara no tiene nuestros mapas otra vez .
hay una puerta detrás de las escuelas .
dos bicicletas de una hermana son pequeñas .
hay este cuadro de un pueblo mañana .
hay este mapa nuevo .
mis hermanas tienen las ventanas altas otra vez .
mi granjero caro dibuja nuestro puente .
el hermano nuevo tiene unas puertas otra vez .
mi niño roto encuentra mi cuadro blanco a nuestro pueblo .
mi camisa del estudiante es alta para este mercado .
necesito un coche .
nuestro amigo no limpia mi casa .
el niño no vende mi mapa pequeño .
un niño amarillo no lleva mis bicicletas .
mi flor cara de mi vecino roto es limpia .
unos niños nuevos pintan mi flor en dos cocinas negras .
estas mujeres olvidan las cartas a este mercado todos los días .
este vecino lleva nuestras manzanas nuevas .
esta mujer limpia tiene el libro .
un hombre tranquilo olvida mi flor .
el hombre limpia mi camisa alta .
esta casa de estos amigos es negra .
nuestro amigo no olvida estas casas rojas detrás de nuestra cocina cara .
este niño amarillo compra esta bicicleta .
el estudiante viejo quiere mi casa pequeña a nuestra escuela ahora .
nuestro niño nuevo quiere mis bicicletas amarillas .
esta reina ve una camisa nueva ahora .
un médico vende mi llave roja a mis bibliotecas tranquilas mañana .
nuestra mujer encuentra nuestra puerta ahora .
hay esta canción detrás de mis iglesias amarillas .
un estudiante no compra los coches amarillos mañana .
mi amigo limpia este cuadro amarillo todos los días .
mi hombre tranquilo compra nuestra ventana .
veo esta caja roja .
dos médicos tienen dos libros los lunes .
dos barcos blancos del hombre son negros .
hay nuestro coche ahora .
compro el árbol .
unas hermanas blancas tienen las mesas rotas .
estos barcos de nuestra maestra son rotos por la noche .
hay una puerta a nuestra biblioteca hoy .
mis hombres dibujan dos barcos .
quiero estos cuadros limpios en mi parque mañana .
la maestra quiere dos bicicletas rojas ahora .
mi reina lleva estas mesas limpias .
un barco roto de nuestro vecino tranquilo es limpio para nuestros parques pequeños por la noche .
nuestra maestra tranquila compra nuestra camisa nueva .
dibujo la bicicleta vieja detrás de nuestro pueblo limpio .
hay dos cuadros ahora .
unas hermanas nuevas llevan mi canción pequeña .
esta mujer dibuja un cuadro pequeño .
tengo dos mesas altas los lunes .
los médicos pintan nuestra camisa nueva .
hay el árbol de las bibliotecas .
esta mujer limpia este mapa .
hay una puerta .
nuestros amigos rojos no olvidan estas manzanas siempre .
nuestro granjero no vende nuestras puertas viejas de mi biblioteca .
estos granjeros ven unas cartas nuevas .
compro dos barcos altos cerca de mis pueblos los lunes .
